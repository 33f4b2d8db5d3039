//! `enforcer profile`: what is usual for an identity, and who is unusual today.

use clap::{Args, Subcommand};
use enforcer_admin::call::{ProfileOrder, ProfilesShown};
use enforcer_admin::{Answer, Call};
use enforcer_detect::ProfileView;
use enforcer_detect::profile::Usual;

use super::{Context, Exit, Failure, Table, counted, mismatched};

/// What is usual for an identity, and who is unusual today
#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// What is usual for one identity: hours, volumes, objects, networks; and what is not
    Show(Show),
    /// Whose day is the most surprising
    List(List),
}

/// What is usual for one identity: hours, volumes, objects, networks; and what is not
///
/// Each row of the chart is a weekday, each column an hour (UTC); the darker, the more often there.
/// Below each, `^` marks the hours of the day under way. Names of objects, networks and clients are
/// kept as keyed hashes and cannot be shown.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The identity, as logs name it: `key:k7Qx2mP9aB3c`, `token:corp/alice`
    #[arg(value_name = "WHO")]
    who: String,
}

/// Whose day is the most surprising
#[derive(Args, Debug)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    most: u32,
}

/// From never to always.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];

const WEEK: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Profile {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Show(Show { who }) => {
                let order = ProfileOrder::Show { identity: who.clone() };
                let shown = ask(context, order)?;
                let Some(profile) = shown.profiles.first() else { return Err(mismatched()) };
                context.printer.item(profile, &told(profile))?;
            }
            Self::List(List { most }) => {
                let shown = ask(context, ProfileOrder::List { most: *most })?;
                if shown.profiles.is_empty() {
                    let known = counted(shown.known, "identity known").replace("ys", "ies");
                    return Err(Failure::nothing(format!("nobody was there today; {known}")));
                }
                context.printer.list(&shown.profiles, &table(&shown.profiles))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn ask(context: &Context, order: ProfileOrder) -> Result<ProfilesShown, Failure> {
    let Answer::Profiles(shown) = context.ask(&Call::Profile { order })? else {
        return Err(mismatched());
    };
    Ok(*shown)
}

fn told(profile: &ProfileView) -> Vec<String> {
    let role = if profile.role.is_empty() { "no role" } else { &profile.role };
    let mut lines = vec![
        format!("{}  ({role})", profile.identity),
        format!(
            "known    since {}, {} learned; last seen {}",
            profile.since,
            counted(profile.days.into(), "day"),
            profile.last_seen
        ),
        String::new(),
        format!("         {}", "0     6     12    18    "),
    ];
    for (day, hours) in WEEK.iter().zip(profile.hours.chunks(24)) {
        let row: String = hours.iter().map(|share| shade(*share)).collect();
        lines.push(format!("{day}      {row}"));
    }
    let today: String =
        (0..24).map(|hour| if profile.hours_now >> hour & 1 == 1 { '^' } else { ' ' }).collect();
    lines.push(format!("now      {today}"));
    lines.push(String::new());
    lines.push("                        usual        now".to_owned());
    for (what, usual, unit) in [
        ("requests a day", profile.requests, Unit::Count),
        ("most in 10 min", profile.requests_burst, Unit::Count),
        ("bytes a day", profile.bytes, Unit::Bytes),
        ("share that fails", profile.errors, Unit::Share),
        ("different objects", profile.objects, Unit::Count),
        ("never read before", profile.novel, Unit::Count),
    ] {
        lines.push(compared(what, usual, unit));
    }
    lines.push(String::new());
    lines.push(format!(
        "uses     {:.0} kinds of request, from {} networks, with {} TLS clients",
        profile.routes, profile.networks, profile.clients
    ));
    let learning = if profile.learning { "; nothing is found yet, the host learns" } else { "" };
    lines.push(format!(
        "score    {:.1} of {:.0} bits today{learning}",
        profile.score, profile.threshold
    ));
    lines.extend(profile.signals.iter().map(|signal| {
        format!("         {:4.1}  {}", signal.bits.unwrap_or_default(), signal.text)
    }));
    lines
}

#[derive(Clone, Copy)]
enum Unit {
    Count,
    Bytes,
    Share,
}

/// A row with a bar for what is usual and one for now, to the same scale.
fn compared(what: &str, Usual { usual, now }: Usual, unit: Unit) -> String {
    let most = usual.max(now).max(f32::MIN_POSITIVE);
    format!(
        "{what:<18} {:>10} {:>10}  {} {}",
        number(usual, unit),
        number(now, unit),
        bar(usual / most, '▒'),
        bar(now / most, '█')
    )
}

fn number(value: f32, unit: Unit) -> String {
    match unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Bytes => {
            let mut left = value;
            let mut name = "B";
            for unit in ["KiB", "MiB", "GiB", "TiB"] {
                if left < 1_024.0 {
                    break;
                }
                left /= 1_024.0;
                name = unit;
            }
            format!("{left:.0} {name}")
        }
    }
}

fn bar(share: f32, fill: char) -> String {
    let width = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95];
    width.iter().map(|step| if share >= *step { fill } else { ' ' }).collect()
}

fn shade(share: f32) -> char {
    let steps = [0.05, 0.25, 0.5, 0.75];
    let place = steps.iter().filter(|step| share >= **step).count();
    SHADES.get(place).copied().unwrap_or('█')
}

fn table(profiles: &[ProfileView]) -> Table {
    let row = |profile: &ProfileView| {
        let why = profile.signals.first().map_or("", |signal| signal.text.as_str());
        vec![
            profile.identity.clone(),
            profile.role.clone(),
            format!("{:.1}", profile.score),
            format!("{:.0}", profile.requests.now),
            format!("{:.0}", profile.requests.usual),
            why.to_owned(),
        ]
    };
    Table {
        header: &["identity", "role", "bits", "requests", "usual", "why"],
        rows: profiles.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_shades_grow_with_what_they_show() {
        assert_eq!(bar(0.0, '█').trim(), "");
        assert_eq!(bar(1.0, '█').chars().filter(|c| *c == '█').count(), 10);
        assert_eq!([0.0, 0.1, 0.3, 0.6, 1.0].map(shade), SHADES);
        assert_eq!(number(2_048.0, Unit::Bytes), "2 KiB");
    }
}
