use jiff::civil::Weekday;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn window(days: &str, hours: &str, zone: &str) -> Window {
    Window::new(days.parse().unwrap(), hours.parse().unwrap(), zone).unwrap()
}

fn open(window: &Window, at: &str) -> bool {
    window.is_open(at.parse().unwrap())
}

#[test]
fn a_window_is_about_clocks_on_a_wall_in_winter_and_summer() {
    let work = window("mon-fri", "08:00-18:00", "Europe/Berlin");

    // 2026-11-20 is a Friday; Berlin is one hour ahead of UTC, in summer two.
    assert!(!open(&work, "2026-11-20T06:59:59Z"));
    assert!(open(&work, "2026-11-20T07:00:00Z"));
    assert!(open(&work, "2026-11-20T16:59:59Z"));
    assert!(!open(&work, "2026-11-20T17:00:00Z"));
    assert!(!open(&work, "2026-11-21T12:00:00Z"));
    assert!(open(&work, "2026-07-17T06:00:00Z"));
    assert!(!open(&work, "2026-07-17T05:59:59Z"));
    assert!(!open(&work, "2026-07-17T16:00:00Z"));
}

#[test]
fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
    let night = window("fri", "22:00-06:00", "UTC");

    assert!(!open(&night, "2026-11-20T05:00:00Z"));
    assert!(!open(&night, "2026-11-20T21:59:59Z"));
    assert!(open(&night, "2026-11-20T22:00:00Z"));
    assert!(open(&night, "2026-11-21T05:59:59Z"));
    assert!(!open(&night, "2026-11-21T06:00:00Z"));
    assert!(!open(&night, "2026-11-21T22:00:00Z"));
    let sunday = window("sun", "23:00-01:00", "UTC");
    assert!(open(&sunday, "2026-11-23T00:30:00Z"));
    assert!(!open(&sunday, "2026-11-22T00:30:00Z"));
}

#[test]
fn skipped_hours_do_not_happen_and_repeated_ones_happen_twice() {
    // In Berlin 02:00 became 03:00 on 2026-03-29, and 03:00 became 02:00 on 2026-10-25.
    let early = window("sun", "02:00-03:00", "Europe/Berlin");
    let minutes = |from: &str| {
        let from: Timestamp = from.parse().unwrap();
        let each = (0..24 * 60).map(|n| Timestamp::from_unix_seconds(from.unix_seconds() + n * 60));
        each.filter(|at| early.is_open(*at)).count()
    };

    assert_eq!(minutes("2026-03-28T23:00:00Z"), 0);
    assert_eq!(minutes("2026-10-24T22:00:00Z"), 120);
    assert_eq!(minutes("2026-10-31T23:00:00Z"), 60);
}

#[test]
fn days_and_hours_have_few_spellings() {
    let days = |text: &str| text.parse::<Days>().map(|days| days.to_string());
    let hours = |text: &str| text.parse::<Hours>().map(|hours| hours.to_string());

    assert_eq!(days("mon-fri").unwrap(), "mon,tue,wed,thu,fri");
    assert_eq!(days("Mon, wed,FRI").unwrap(), "mon,wed,fri");
    assert_eq!(days("sat-mon").unwrap(), "mon,sat,sun");
    assert_eq!(days("mon-wed,sat").unwrap(), "mon,tue,wed,sat");
    assert_eq!(days("mon-sun").unwrap().parse(), Ok(Days::ALL));
    assert_eq!(hours("00:00-24:00").unwrap().parse(), Ok(Hours::ALL));
    assert_eq!(hours("22:00 - 06:30").unwrap(), "22:00-06:30");
    for text in ["", "monday", "mon-", "mon--fri", "mon;tue", "1-5", "mon fri"] {
        assert_eq!(days(text).unwrap_err(), WindowError::Days(text.to_owned()));
    }
    assert_eq!(days("mon-wed,tue").unwrap_err().to_string(), "`tue` is in `mon-wed,tue` twice");
    for text in [
        "",
        "8-18",
        "08:00",
        "8:00-18:00",
        "08:00-25:00",
        "08:60-09:00",
        "24:00-06:00",
        "08:00-24:01",
        "+8:00-18:00",
        "08:00-18:00-20:00",
    ] {
        assert_eq!(hours(text).unwrap_err(), WindowError::Hours(text.to_owned()), "{text}");
    }
    assert!(hours("08:00-08:00").unwrap_err().to_string().contains("begins when it ends"));
}

#[test]
fn a_zone_that_does_not_exist_is_refused_with_the_form_of_one() {
    let (days, hours) = (Days::ALL, Hours::ALL);

    let refused = Window::new(days, hours, "Berlin").unwrap_err();

    assert_eq!(
        refused.to_string(),
        "`Berlin` is not a time zone; write an IANA name such as `Europe/Berlin`, or `UTC`"
    );
    let utc = Window::new(days, hours, "UTC").unwrap();
    assert_eq!(utc.to_string(), "mon,tue,wed,thu,fri,sat,sun 00:00-24:00 UTC");
    assert_eq!(window("mon", "08:00-09:00", "Asia/Kolkata").zone(), "Asia/Kolkata");
}

const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Pacific/Apia",
    "America/Sao_Paulo",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The calendar of the library answers for each moment by itself, also behind the list of changes.
    #[test]
    fn a_window_is_open_when_the_calendar_of_its_zone_says_so(
        zone in select(ZONES.to_vec()),
        days in 1..0x80_u8,
        from in 0..1440_u16,
        to in 0..=1440_u16,
        at in prop_oneof![0..1_600_000_000_u64, 1_570_000_000..1_900_000_000_u64, 1_900_000_000..6_000_000_000_u64],
    ) {
        prop_assume!(from != to);
        let (days, hours) = (Days(days), Hours { from_minute: from, to_minute: to });
        let window = Window::new(days, hours, zone).unwrap();

        let is_open = window.is_open(Timestamp::from_unix_seconds(at));

        let clock = jiff::Timestamp::from_second(at.try_into().unwrap()).unwrap().in_tz(zone).unwrap();
        let minute = u16::try_from(i16::from(clock.hour()) * 60 + i16::from(clock.minute())).unwrap();
        let on = |weekday: Weekday| days.has(weekday.to_monday_zero_offset().into());
        let expected = if from < to {
            on(clock.weekday()) && from <= minute && minute < to
        } else {
            on(clock.weekday()) && from <= minute || on(clock.weekday().previous()) && minute < to
        };
        prop_assert_eq!(is_open, expected, "{}", clock);
    }
}
