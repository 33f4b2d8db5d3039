use proptest::prelude::*;

use super::*;
use crate::segment::RECORD_BYTES_MAX;
use crate::segment::unpack::Unpacked;

proptest! {
    #[test]
    fn any_records_come_back_in_their_order_and_out_of_it(records in records()) {
        let mut packer = Packer::default();
        // What an earlier block was made of is no harm to the next one.
        for _ in 0..2 {
            packer.clear();
            let streams = pack(&mut packer, &records);
            let mut unpacked = unpack(streams, records.len()).unwrap();
            for at in (0..records.len()).chain((0..records.len()).rev()) {
                let mut back = Vec::new();
                prop_assert_eq!(unpacked.write(at, &mut back), Some(()));
                prop_assert_eq!(
                    String::from_utf8_lossy(&back),
                    String::from_utf8_lossy(&records[at])
                );
            }
            prop_assert_eq!(unpacked.write(records.len(), &mut Vec::new()), None);
        }
    }

    #[test]
    fn altered_streams_are_no_harm(
        records in records(),
        changes in prop::collection::vec((0..3_usize, any::<u16>(), any::<u8>()), 1..6),
        count in 0..40_usize,
    ) {
        let mut streams = pack(&mut Packer::default(), &records);
        for (stream, place, byte) in changes {
            let Streams { head, thin, raw } = &mut streams;
            let stream = [head, thin, raw].into_iter().nth(stream).unwrap();
            match usize::from(place) % (stream.len() + 1) {
                end if end == stream.len() => stream.push(byte),
                at if byte % 3 == 0 => stream.truncate(at),
                at => stream[at] ^= byte,
            }
        }
        let count = if count < 20 { records.len() } else { count };
        if let Some(mut unpacked) = unpack(streams, count) {
            for at in 0..count {
                let mut back = Vec::new();
                if unpacked.write(at, &mut back).is_some() {
                    prop_assert!(back.len() <= RECORD_BYTES_MAX);
                }
            }
        }
    }
}

#[test]
fn what_records_share_is_written_once() {
    let record = |number: u64| {
        format!(
            r#"{{"v":1,"index":{number},"time":"2026-11-22T20:12:07.{number:06}Z","class":"http","body":{{"id":"{:032x}","peer":"~k3JxT0aPq8w:{}","path":"/v1/orders/{number}","who":{{"principal":"key:k7Qx2mP9aB3c","key":"k7Qx2mP9aB3c"}},"status":200}}}}"#,
            u128::from(number) << 64 | u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            1_024 + number % 7,
        )
        .into_bytes()
    };
    let records: Vec<_> = (100_000..100_512).map(record).collect();

    let streams = pack(&mut Packer::default(), &records);

    let each = (streams.head.len() + streams.thin.len() + streams.raw.len()) / records.len();
    assert!(each < 45, "{each} bytes of {}", records[0].len());
    assert!(streams.raw.len() >= 8 * records.len(), "what is random is not compressed");
}

#[test]
fn more_kinds_of_records_than_there_are_templates_are_kept_whole() {
    let records: Vec<_> = (0..200)
        .map(|number| format!(r#"{{"field-{number}":{number},"same":"text"}}"#).into_bytes())
        .collect();

    let mut packer = Packer::default();
    let streams = pack(&mut packer, &records);

    let mut unpacked = unpack(streams, records.len()).unwrap();
    for (at, record) in records.iter().enumerate() {
        let mut back = Vec::new();
        unpacked.write(at, &mut back).unwrap();
        assert_eq!(back, *record);
    }
}

fn pack(packer: &mut Packer, records: &[Vec<u8>]) -> Streams {
    records.iter().for_each(|record| packer.push(record));
    let mut streams = Streams::default();
    packer.pack(&mut streams);
    streams
}

fn unpack(streams: Streams, count: usize) -> Option<Unpacked> {
    let Streams { head, thin, raw } = streams;
    Unpacked::read(head, thin, raw, count)
}

/// Some that are alike, some that are not, and some that are no records.
fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let value = prop_oneof![
        4 => Just("\"same\"".to_owned()),
        2 => "\"[0-9a-f]{8}\"",
        2 => "\"~[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048](:[0-9]{1,5})?\"",
        2 => "\"(/[a-z]{0,2}){1,3}\"",
        2 => "\"key:[a-z]{1,3}\"",
        2 => "-?[0-9]{1,21}",
        1 => "\"20[0-9]{2}-0[1-9]-[0-2][0-9]T2[0-3]:0[0-9]:00.00000[0-9]Z\"",
        1 => "\"[a-z\\\\\\\\\\\\\"]{0,6}\"",
        1 => Just("null".to_owned()),
        1 => "\\\\[(\"[ab]\",){0,3}\"c\"\\\\]",
    ];
    let alike = prop::collection::vec(prop::collection::vec(value, 3), 1..40).prop_map(|rows| {
        let record = |row: Vec<String>| {
            format!("{{\"a\":{},\"b\":{{\"c\":{},\"d\":{}}}}}", row[0], row[1], row[2]).into_bytes()
        };
        rows.into_iter().map(record).collect::<Vec<_>>()
    });
    let odd = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4);
    (alike, odd).prop_map(|(alike, odd)| [alike, odd].concat())
}
