//! The error messages of the attribute, compared with the snapshots in `tests/ui`.
//!
//! A test of this crate and not of `coreloop`: trybuild compiles the dependencies of the package that it runs in, and
//! this crate has few. `TRYBUILD=overwrite` writes the snapshots.

#[test]
fn mistakes_are_reported_where_they_are_made() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass_*.rs");
    cases.compile_fail("tests/ui/fail_*.rs");
}
