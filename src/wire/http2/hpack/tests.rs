//! The vectors of RFC 7541 appendix C in both directions, faults, limits, round trips.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn text(list: &FieldList) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    list.iter().map(|field| (text(field.name), text(field.value))).collect()
}

fn decode(decoder: &mut HpackDecoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackFault> {
    let mut list = FieldList::new();
    assert_eq!(decoder.decode(block, 1 << 14, &mut list)?, ListFit::Whole);
    Ok(text(&list))
}

type Fields = Vec<(&'static str, &'static str)>;

fn requests() -> [Fields; 3] {
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    [
        first.to_vec(),
        [&first[..], &[("cache-control", "no-cache")]].concat(),
        vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ],
    ]
}

fn responses() -> [Fields; 3] {
    let response = |status, date| {
        vec![
            (":status", status),
            ("cache-control", "private"),
            ("date", date),
            ("location", "https://www.example.com"),
        ]
    };
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let mut last = response("200", "Mon, 21 Oct 2013 20:13:22 GMT");
    last.push(("content-encoding", "gzip"));
    last.push(("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"));
    [response("302", date), response("307", date), last]
}

/// Decodes and encodes the blocks of one section. The sizes are those of the table after each block.
fn check_section(
    table_bytes: usize,
    uses_huffman: bool,
    blocks: [&str; 3],
    lists: [Fields; 3],
    sizes: [usize; 3],
) {
    let mut decoder = HpackDecoder::new(table_bytes);
    let mut encoder = HpackEncoder::new(table_bytes, table_bytes, uses_huffman);
    for ((block, list), size) in blocks.into_iter().zip(lists).zip(sizes) {
        let block = bytes(block);
        let expected: Vec<(String, String)> =
            list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(decode(&mut decoder, &block).unwrap(), expected);
        assert_eq!(decoder.table().size(), size);
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for (name, value) in list {
            encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut encoded);
        }
        assert_eq!(encoded, block);
        assert_eq!(encoder.table().newest_first(), decoder.table().newest_first());
    }
}

#[test]
fn integers_of_appendix_c_1() {
    for (value, prefix_bits, expected) in
        [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])]
    {
        let mut out = Vec::new();
        integer::write(value, prefix_bits, 0, &mut out);
        assert_eq!(out, expected);
        assert_eq!(integer::read(&out, prefix_bits), Some((value, &[][..])));
    }
}

#[test]
fn integers_beyond_31_bits_are_faults_however_they_are_written() {
    for (hex, expected) in [
        ("ff 80 ff ff ff 07", Some(0x7fff_ffff)),
        ("ff 81 ff ff ff 07", None),
        ("ff ff ff ff ff ff 7f", None),
        ("ff 80 80 80 80 00", Some(127)),
        ("ff 80 80 80 80 80 00", None),
        ("ff ff", None),
        ("ff", None),
        ("", None),
    ] {
        assert_eq!(integer::read(&bytes(hex), 7).map(|(value, _)| value), expected, "{hex}");
    }
}

#[test]
fn literals_of_appendix_c_2() {
    let mut decoder = HpackDecoder::new(4096);
    let custom = vec![("custom-key".to_owned(), "custom-header".to_owned())];
    let block = bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    assert_eq!(decode(&mut decoder, &block).unwrap(), custom);
    assert_eq!(decoder.table().size(), 55);
    let block = bytes("040c 2f73 616d 706c 652f 7061 7468");
    assert_eq!(decode(&mut decoder, &block).unwrap(), [(":path".to_owned(), "/sample/path".to_owned())]);
    let block = bytes("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let mut list = FieldList::new();
    decoder.decode(&block, 1 << 14, &mut list).unwrap();
    assert_eq!(text(&list), [("password".to_owned(), "secret".to_owned())]);
    assert!(list.get(0).unwrap().is_sensitive);
    assert_eq!(format!("{list:?}"), "[password: 6 bytes]");
    assert_eq!(decode(&mut decoder, &[0x82]).unwrap(), [(":method".to_owned(), "GET".to_owned())]);
    assert_eq!(decoder.table().size(), 55);
    let mut encoded = Vec::new();
    HpackEncoder::new(4096, 4096, false).field(b"password", b"secret", Indexing::Never, &mut encoded);
    assert_eq!(encoded, block);
}

#[test]
fn requests_of_appendix_c_3_and_c_4() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    check_section(4096, false, plain, requests(), [57, 110, 164]);
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    check_section(4096, true, huffman, requests(), [57, 110, 164]);
}

#[test]
fn responses_of_appendix_c_5_and_c_6_with_eviction() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    check_section(256, false, plain, responses(), [222, 222, 215]);
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    check_section(256, true, huffman, responses(), [222, 222, 215]);
}

fn round_trip(string: &[u8]) {
    let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
    huffman::encode(string, &mut encoded);
    assert_eq!(encoded.len(), huffman::encoded_bytes(string));
    assert_eq!(huffman::decode(&encoded, usize::MAX, &mut decoded), Ok(string.len()));
    assert_eq!(decoded, string);
}

#[test]
fn every_symbol_and_every_pair_round_trips_through_the_huffman_code() {
    for first in 0..=255 {
        round_trip(&[first]);
        for second in 0..=255 {
            round_trip(&[first, second]);
        }
    }
}

#[test]
fn codes_of_appendix_b() {
    for (symbol, hex) in [
        (0u8, "ff c7"),
        (9, "ff ff ea"),
        (10, "ff ff ff f3"),
        (48, "07"),
        (92, "ff fe 1f"),
        (128, "ff fe 6f"),
        (199, "ff ff f6 7f"),
        (254, "ff ff fe 1f"),
        (255, "ff ff fb bf"),
    ] {
        let mut encoded = Vec::new();
        huffman::encode(&[symbol], &mut encoded);
        assert_eq!(encoded, bytes(hex), "{symbol}");
    }
}

#[test]
fn invalid_huffman_padding_is_a_fault() {
    let mut out = Vec::new();
    for (hex, expected) in [
        ("", Ok(0)),
        ("07", Ok(1)),                               // '0' and three ones
        ("00", Err(huffman::HuffmanFault)),          // '0' and three zeros
        ("06", Err(huffman::HuffmanFault)),          // '0' and 110
        ("ff", Err(huffman::HuffmanFault)),          // eight ones
        ("07 ff", Err(huffman::HuffmanFault)),       // a padding of eleven bits
        ("ff ff ff ff", Err(huffman::HuffmanFault)), // the end-of-string symbol
        ("ff ff ff fc 07", Err(huffman::HuffmanFault)),
        ("1f ff ff ff ff", Err(huffman::HuffmanFault)),
    ] {
        assert_eq!(huffman::decode(&bytes(hex), 100, &mut out), expected, "{hex}");
    }
}

#[test]
fn malformed_blocks_are_faults() {
    for (hex, fault) in [
        ("80", HpackFault::Index),
        ("be", HpackFault::Index),
        ("ff 80 ff ff ff 07", HpackFault::Index),
        ("7f 80 01 01 61", HpackFault::Index),
        ("00", HpackFault::Integer),
        ("40 01 61", HpackFault::Integer),
        ("04 7f ff ff", HpackFault::Integer),
        ("04 03 61 62", HpackFault::StringLength),
        ("04 ff 80 ff ff ff 07", HpackFault::StringLength),
        ("04 81 ff", HpackFault::Huffman),
        ("3f e2 1f", HpackFault::SizeUpdate),
        ("82 20", HpackFault::SizeUpdate),
    ] {
        let mut decoder = HpackDecoder::new(4096);
        assert_eq!(decode(&mut decoder, &bytes(hex)), Err(fault), "{hex}");
    }
}

#[test]
fn size_updates_evict_and_may_come_twice() {
    let mut decoder = HpackDecoder::new(4096);
    decode(&mut decoder, &bytes("4001 6101 62")).unwrap();
    assert_eq!(decoder.table().size(), 34);
    decode(&mut decoder, &bytes("20 3f e1 1f 82")).unwrap();
    assert_eq!((decoder.table().size(), decoder.table().size_max()), (0, 4096));
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(HpackFault::Index));
}

#[test]
fn a_lowered_maximum_holds_once_the_peer_confirms_it() {
    let mut decoder = HpackDecoder::new(4096);
    decode(&mut decoder, &bytes("4001 6101 62")).unwrap();
    decoder.acknowledged(16);
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap(), [("a".to_owned(), "b".to_owned())]);
    assert_eq!((decoder.table().size(), decoder.table().size_max()), (34, 4096));
    decode(&mut decoder, &bytes("30 82")).unwrap();
    assert_eq!((decoder.table().size(), decoder.table().size_max()), (0, 16));
    let mut decoder = HpackDecoder::new(4096);
    decoder.acknowledged(1024);
    assert_eq!(decode(&mut decoder, &bytes("3f e2 07")), Err(HpackFault::SizeUpdate));
    let mut decoder = HpackDecoder::new(4096);
    decoder.acknowledged(1024);
    assert_eq!(decode(&mut decoder, &bytes("3f e1 07 82")).unwrap().len(), 1);
    assert_eq!(decoder.table().size_max(), 1024);
}

#[test]
fn an_encoder_announces_its_size_and_follows_the_peer() {
    let mut encoder = HpackEncoder::new(1024, 4096, false);
    let mut out = Vec::new();
    encoder.begin(&mut out);
    assert_eq!(out, bytes("3f e1 07"));
    out.clear();
    encoder.set_peer_max(65_536, 65_536);
    encoder.begin(&mut out);
    assert!(out.is_empty());
    encoder.field(b"a", b"b", Indexing::Add, &mut out);
    encoder.set_peer_max(0, 100);
    assert_eq!((encoder.table().size(), encoder.table().size_max()), (0, 100));
    out.clear();
    encoder.begin(&mut out);
    assert_eq!(out, bytes("20 3f 45"));
}

#[test]
fn a_list_over_the_limit_stores_nothing_beyond_it_and_keeps_the_table_right() {
    // One entry of 4,000 bytes, then a thousand references to it: 4 MB from 5 KB.
    let mut encoder = HpackEncoder::new(8192, 8192, false);
    let mut block = Vec::new();
    encoder.field(b"large", &[b'x'; 4000], Indexing::Add, &mut block);
    for _ in 0..1000 {
        encoder.field(b"large", &[b'x'; 4000], Indexing::Add, &mut block);
    }
    encoder.field(b"last", b"1", Indexing::Add, &mut block);
    let (mut decoder, mut list) = (HpackDecoder::new(8192), FieldList::new());
    assert_eq!(decoder.decode(&block, 16 << 10, &mut list), Ok(ListFit::TooLarge));
    assert!(list.list_bytes() <= 16 << 10);
    assert!(list.allocated_bytes() <= 64 << 10, "{}", list.allocated_bytes());
    assert_eq!(decoder.table().newest_first(), encoder.table().newest_first());
    // A literal that fits in neither the list nor the table.
    let mut block = vec![0x40, 1, b'n'];
    integer::write(20_000, 7, 0, &mut block);
    block.extend([b'y'; 20_000]);
    list.clear();
    assert_eq!(decoder.decode(&block, 16 << 10, &mut list), Ok(ListFit::TooLarge));
    assert!(list.is_empty());
    assert_eq!(decoder.table().size(), 0);
}

#[test]
fn the_table_moves_its_bytes_rarely_and_stays_small() {
    let mut table = DynamicTable::new(1024);
    for i in 0u32..100_000 {
        table.insert(&i.to_le_bytes(), &[b'v'; 20][..(i % 20) as usize]);
        assert_eq!(table.get(62).unwrap().0, i.to_le_bytes());
    }
    assert!(table.size() <= 1024);
    assert!(table.allocated_bytes() <= 4096, "{}", table.allocated_bytes());
    table.set_size_max(0);
    assert_eq!(table.allocated_bytes(), 0);
}

fn any_field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, u8)> {
    let name = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        prop::sample::select(vec![&b":status"[..], b":path", b"content-type", b"grpc-status"])
            .prop_map(<[u8]>::to_vec),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![&b"200"[..], b"/", b"", b"0"]).prop_map(<[u8]>::to_vec),
    ];
    (name, value, 0u8..3)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_whatever_the_sizes_are(
        blocks in proptest::collection::vec(
            (proptest::collection::vec(any_field(), 0..12), proptest::option::of((0usize..300, 0usize..300))), 1..12),
        uses_huffman in any::<bool>(),
        own_max in 0usize..400,
    ) {
        let mut encoder = HpackEncoder::new(own_max, 256, uses_huffman);
        let mut decoder = HpackDecoder::new(256);
        for (fields, resize) in blocks {
            if let Some((least, last)) = resize {
                encoder.set_peer_max(least.min(last), last);
                decoder.acknowledged(least.min(last));
                decoder.acknowledged(last);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            for (name, value, indexing) in &fields {
                let indexing = [Indexing::Add, Indexing::Omit, Indexing::Never][usize::from(*indexing)];
                encoder.field(name, value, indexing, &mut block);
            }
            let mut list = FieldList::new();
            prop_assert_eq!(decoder.decode(&block, 1 << 16, &mut list), Ok(ListFit::Whole));
            let found: Vec<_> = list.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
            let expected: Vec<_> = fields.into_iter().map(|(name, value, _)| (name, value)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(decoder.table().newest_first(), encoder.table().newest_first());
        }
    }

    #[test]
    fn any_bytes_are_decoded_within_the_limit(block in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (mut decoder, mut list) = (HpackDecoder::new(256), FieldList::new());
        let _ = decoder.decode(&block, 200, &mut list);
        prop_assert!(list.list_bytes() <= 200 && decoder.table().size() <= 256);
    }
}
