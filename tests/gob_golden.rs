//! Golden bytes from the documentation of Go's encoding/gob. The only test of its program, because type ids are
//! assigned in the order of first use within the process.

#![allow(missing_docs)]

use coreloop::codec::gob::{decode, encode};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Point {
    x: i64,
    y: i64,
}

#[test]
fn bytes_are_those_of_gos_documentation() {
    let point = Point { x: 22, y: 33 };
    let mut body = Vec::new();
    encode(&point, &mut body).unwrap();
    let documented =
        b"\x1f\xff\x81\x03\x01\x01\x05\x50\x6f\x69\x6e\x74\x01\xff\x82\x00\x01\x02\x01\x01\x58\x01\x04\
        \x00\x01\x01\x59\x01\x04\x00\x00\x00\x07\xff\x82\x01\x2c\x01\x42\x00";
    assert_eq!(body.escape_ascii().to_string(), documented.escape_ascii().to_string());
    assert_eq!(decode::<Point>(documented), Ok(point));
    body.clear();
    encode(&3i64, &mut body).unwrap();
    assert_eq!(body, [3, 4, 0, 6]);
}
