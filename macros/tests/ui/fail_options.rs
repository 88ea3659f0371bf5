//! What stands in the parentheses: unknown, twice, contradictory, ill-formed.

use coreloop::{Context, Status};

struct A;

#[coreloop::service(client = false)]
impl A {
    #[rpc(fast)]
    fn unknown(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(inline, inline)]
    fn twice(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(name = "X")]
    #[rpc(name = "Y")]
    fn twice_in_two(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(inline, blocking)]
    fn contradictory(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(skip, idempotent)]
    fn skipped(&self) {}

    #[rpc(name = 7)]
    fn not_text(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(name = "A.B")]
    fn not_a_part(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(inline = true)]
    fn no_value_taken(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(argument = describe)]
    fn nothing_to_describe(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }
}

struct B;

#[coreloop::service(nmae = "B")]
impl B {}

struct C;

#[coreloop::service(name = "C", name = "D")]
impl C {}

struct D;

#[coreloop::service(client = false, client_vis = "pub(crate)")]
impl D {}

struct E;

#[coreloop::service(client_vis = "public")]
impl E {}

struct F;

#[coreloop::service(name = "")]
impl F {}

struct G;

#[coreloop::service(package = "a.b", name = "c.G")]
impl G {}

struct H;

#[coreloop::service(rename_all = "Pascal")]
impl H {}

struct I;

#[coreloop::service(name = "A", rename = "B")]
impl I {}

struct J;

#[coreloop::service(client = false)]
impl J {
    #[rpc(blockin)]
    fn misspelt(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(Idempotent)]
    fn wrong_case(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }

    #[rpc(retry::never)]
    fn a_path(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }
}

fn main() {}
