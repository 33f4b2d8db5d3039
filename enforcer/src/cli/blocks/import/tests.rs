use enforcer_admin::call::ListInKernel;
use enforcer_model::{BlockId, Expiry, Timestamp};

use super::*;

#[test]
fn a_whole_import_says_what_holds_where_and_how_to_undo_it() {
    let lines = told(&imported());

    assert_eq!(
        lines,
        [
            "imported  list:drop  until 1970-01-02T00:00:00Z (1d)   B-0000001",
            "  holds   1000000 networks: 900000 IPv4, 100000 IPv6",
            "          12 given more than once",
            "          340 inside another network of the list",
            "          5 blocked by another decision as well",
            "  kernel  eth1 xdp-native   999995 entries, read back; one switch, in 812.0 ms",
            "  layer 7 applied   3 open connections closed",
            "  audit   #12",
            "  took    1.9 s",
            "undo: enforcer release list:drop",
        ]
    );
    assert!(is_whole(&imported()));
}

#[test]
fn what_a_guard_refused_is_told_and_makes_the_import_a_partial_one() {
    let mut partial = imported();
    partial.refused_total = 102;
    partial.refused = (0..100)
        .map(|n| Refused {
            prefix: Prefix::around([10, 0, 0, n].into(), 32),
            why: "gateway".into(),
        })
        .collect();

    let lines = told(&partial);

    assert!(lines.contains(&"  guards  REFUSED 102:".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"    10.0.0.7           gateway".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"    and 2 more".to_owned()), "{lines:#?}");
    assert!(!is_whole(&partial));
}

#[test]
fn what_is_not_in_force_or_not_on_disk_or_record_makes_it_a_partial_one() {
    let changes: [fn(&mut Imported); 4] = [
        |list| list.kernel_off = Some("no room".to_owned()),
        |list| list.layer7 = false,
        |list| list.not_stored = Some("no space left".to_owned()),
        |list| list.audit = None,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut partial = imported();
        change(&mut partial);
        assert!(!is_whole(&partial), "{n}");
        assert!(told(&partial).iter().any(|line| line.contains("NOT ")), "{n}");
    }
}

#[test]
fn a_rehearsal_tells_what_would_be_and_has_nothing_to_undo() {
    let mut rehearsal = imported();
    (rehearsal.dry_run, rehearsal.audit, rehearsal.layer7) = (true, None, false);
    rehearsal.kernel = None;

    let lines = told(&rehearsal);

    assert!(lines[0].starts_with("would import  list:drop"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("undo") || line.contains("NOT")), "{lines:#?}");
    assert!(is_whole(&rehearsal));
}

#[test]
fn the_undo_of_a_replaced_list_is_what_it_held_before() {
    let mut list = imported();
    list.replaced = Some(BlockId::from_bits(2));
    list.removed = 7;
    list.previous = Some("/var/lib/enforcer/lists/drop.previous".into());

    let lines = told(&list);

    assert!(
        lines.contains(&"  before  B-0000002 is replaced; 7 networks left the list".to_owned())
    );
    assert!(lines.last().unwrap().contains("import /var/lib/enforcer/lists/drop.previous --list"));
}

#[test]
fn a_list_is_named_as_its_file_is_unless_somebody_names_it() {
    let name = |file: &str| import(file).list_name().map(|name| name.to_string());

    assert_eq!(name("/tmp/spamhaus-drop.txt").unwrap(), "spamhaus-drop");
    assert_eq!(name("-").unwrap_err().exit, Exit::Usage);
    assert_eq!(name("/tmp/my list.txt").unwrap_err().exit, Exit::Usage);
    let named = Import { list: Some("x".parse().unwrap()), ..import("-") };
    assert_eq!(named.list_name().unwrap().as_str(), "x");
}

#[test]
fn a_file_with_bad_lines_is_told_by_file_and_line_and_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("drop.txt");
    let bad = "x\n".repeat(25);
    std::fs::write(&file, format!("192.0.2.1\n10.1.2.3/8\n{bad}")).unwrap();

    let failure = import(file.to_str().unwrap()).networks(&mut Steps::new()).unwrap_err();

    assert_eq!(failure.exit, Exit::Usage);
    let place = file.display();
    let first =
        format!("{place}:2: `10.1.2.3/8` has host bits set; write `10.0.0.0/8`, or say --mask");
    assert_eq!(failure.details.first(), Some(&first));
    assert_eq!(failure.details.len(), 21);
    assert_eq!(failure.details.last().unwrap(), "and 6 more");
    std::fs::write(&file, "# nothing\n").unwrap();
    let empty = import(file.to_str().unwrap()).networks(&mut Steps::new()).unwrap_err();
    assert!(empty.message.contains("holds no network"), "{}", empty.message);
}

fn import(file: &str) -> Import {
    Import {
        file: file.into(),
        list: None,
        ttl: Ttl::Forever,
        reason: "test".to_owned(),
        mask: false,
        override_guard: false,
        dry_run: false,
        yes: false,
    }
}

fn imported() -> Imported {
    Imported {
        list: "drop".parse().unwrap(),
        id: BlockId::from_bits(1),
        networks: 1_000_000,
        v4: 900_000,
        v6: 100_000,
        duplicates: 12,
        contained: 340,
        already_blocked: 5,
        refused: Vec::new(),
        refused_total: 0,
        removed: 0,
        replaced: None,
        previous: None,
        kernel: Some(ListInKernel {
            interfaces: vec!["eth1 xdp-native".to_owned()],
            entries: 999_995,
            applied_us: 812_000,
            observe: false,
        }),
        kernel_off: None,
        kernel_wanted: true,
        layer7: true,
        not_stored: None,
        overridden: Vec::new(),
        connections_closed: 3,
        took_us: 1_900_000,
        until: Expiry::At(Timestamp::from_unix_seconds(86_400)),
        since: Timestamp::from_unix_seconds(0),
        audit: Some(12),
        dry_run: false,
    }
}
