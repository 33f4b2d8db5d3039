//! A clock that is put forward or back by an hour: no alarm, no gap, and every record in its place.

use enforcer_audit::{Expected, Log, verify};

use super::History;

#[test]
fn a_wall_clock_that_steps_by_an_hour_raises_no_alarm() {
    for step in ["3600", "-3600"] {
        let mut history = History::in_memory();

        let words = ["--records", "400", "--in-flight", "16", "--segment-bytes", "9000"];
        let end = history.run(&[], &[&words[..], &["--step", step]].concat()).unwrap();
        // The clock of the next run is right again, which is a step of its own.
        let again = history.run(&[], &words).unwrap();

        assert!(end.closed && again.closed, "{end:?}");
        let content = history.expect_whole(step);
        assert_eq!((content.stored.len(), content.counted), (800, 0), "{step}");
        let times = mono_and_wall(&history);
        assert!(times.iter().map(|(mono, _)| mono).is_sorted(), "{step}");
        let jumped = times.windows(2).any(|pair| {
            let apart = (pair[1].1 - pair[0].1).abs();
            (3_500..3_700).contains(&apart)
        });
        assert!(jumped, "{step}: the records tell what the clock said");
    }
}

#[test]
fn a_clock_that_steps_while_a_log_is_full_of_refusals_counts_them_all() {
    let mut history = History::in_memory();
    let words = ["--records", "3000", "--in-flight", "100", "--queue", "8", "--pause", "0"];

    let end = history.run(&[], &[&words[..], &["--step", "-3600"]].concat()).unwrap();

    assert!(end.closed);
    let content = history.expect_whole("a step amid refusals");
    assert!(content.counted > 0);
    assert_eq!(u64::try_from(content.stored.len()).unwrap() + content.counted, 3_000);
    verify(&history.directory(), &Expected::default(), |_, _| ()).unwrap();
}

/// Monotonic nanoseconds and seconds of the wall clock of all requests.
fn mono_and_wall(history: &History) -> Vec<(u64, i64)> {
    let log = Log::open_read_only(&history.directory()).unwrap();
    let records = log.records(0..u64::MAX).unwrap().map(|stored| stored.unwrap());
    let requests = records.filter(|stored| stored.header().unwrap().class == "http");
    requests
        .map(|stored| {
            let json = stored.json().unwrap();
            let wall = stored.header().unwrap().time.unix_seconds();
            (json["mono_ns"].as_u64().unwrap(), i64::try_from(wall).unwrap())
        })
        .collect()
}
