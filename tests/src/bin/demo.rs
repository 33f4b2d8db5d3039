//! The story of enforcer, told while it happens: `cargo xtask demo`.
//!
//! Every sentence is a promise that is tried in the lab, with the real program, a real kernel
//! program and real sockets. The last line counts the promises that were held, and the exit code is
//! 0 only when all of them were. With `--stay` the lab is kept up as a playground until Ctrl-C.

#![expect(clippy::print_stdout, reason = "telling is what the demo is for")]
#![expect(clippy::disallowed_methods, reason = "the story measures real time")]

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use enforcer_tests::demo::{NAME, POLICY, THRESHOLD};
use enforcer_tests::lab::{
    ATTACKER, Agent, Answer, Ask, CLIENT, Client, DEADLINE, Family, HOST_FOR_ATTACKER,
    HOST_FOR_CLIENT, Http, KeyGuesses, Lab, Output, PORT, Ping, Site, Train, UPSTREAM, Upstream,
    guess, wait_until,
};
use enforcer_tests::story::{Story, held_if};

/// How many promises the story has.
const PROMISES: u32 = 23;

/// Networks of the feed.
const FEED: u32 = 100_000;

/// How late the first lost packet may be on a machine that is busy with other things; `cargo xtask
/// bench loop` measures what it takes.
const AT_ONCE: Duration = Duration::from_millis(250);

/// The story of enforcer, told while it happens.
#[derive(Parser)]
struct Arguments {
    /// Keep the lab up until Ctrl-C
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut story = Story::begin("enforcer, in a lab of three hosts", PROMISES);
    match tell(&mut story, &arguments) {
        Ok(()) => story.end(),
        Err(error) => story.break_off(&error),
    }
}

fn tell(story: &mut Story, arguments: &Arguments) -> Result<()> {
    story.chapter("A network, a service, an agent");
    let lab = Lab::new()?;
    story.step(&format!("client {} and attacker {} each reach the host", CLIENT.v4, ATTACKER.v4));
    let upstream = Upstream::start(&lab.host, UPSTREAM)?;
    let site = Site::new(&lab.host, POLICY, NAME)?;
    let agent = site.start()?;
    let scene = Scene { lab: &lab, site: &site, upstream: &upstream };
    story.promise("native XDP guards both interfaces", || scene.kernel_part_is_on());

    story.chapter("Those who may, and those who may not");
    let reader = scene.issue("client", "reader")?;
    let admin = scene.issue("operator", "admin")?;
    served(story, &scene, &reader, &admin);

    story.chapter("An attacker guesses keys");
    let attacked = attacked(story, &scene, &reader)?;

    story.chapter("An operator steps in");
    operated(story, &scene, &reader)?;

    story.chapter("A feed of networks that nobody wants to hear from");
    listed(story, &scene)?;

    story.chapter("The evidence");
    evidence(story, &scene, &attacked);

    story.chapter("The agent is killed");
    killed(story, &scene, agent, &reader)?;

    if arguments.stay {
        stay(&lab)?;
    }
    Ok(())
}

/// Everybody and everything in the story.
struct Scene<'a> {
    lab: &'a Lab,
    site: &'a Site,
    upstream: &'a Upstream,
}

/// What is known of the attacker's block.
struct Attacked {
    block: String,
}

fn served(story: &mut Story, scene: &Scene<'_>, reader: &str, admin: &str) {
    for (family, http) in [(Family::V4, Http::One), (Family::V6, Http::Two)] {
        story.promise(&format!("a valid key is served through TLS, {family:?}, {http:?}"), || {
            let answer = scene.client(family).connect(http)?.ask(&orders().key(reader))?;
            held_if(answer.status == 200, format!("{} in {:.1?}", answer.status, answer.took))
        });
    }
    story.promise("without a key there is a 401, and the service hears nothing of it", || {
        let before = scene.upstream.requests();
        let answer = scene.client(Family::V4).ask(&orders())?;
        let heard = scene.upstream.requests() - before;
        held_if(
            answer.status == 401 && heard == 0,
            format!("{}, heard {heard} requests", answer.status),
        )
    });
    story.promise("the wrong role gets 403, the right one is served", || {
        let create = Ask::post("/v1/orders", "{}");
        let client = scene.client(Family::V4);
        let (wrong, right) =
            (client.ask(&create.clone().key(reader))?, client.ask(&create.key(admin))?);
        held_if(
            wrong.status == 403 && right.status == 200,
            format!("reader {}, admin {}", wrong.status, right.status),
        )
    });
    story.promise(
        "a path that can be read two ways is refused before anything looks at it",
        || {
            let before = scene.upstream.requests();
            let answer =
                scene.client(Family::V4).ask(&Ask::get("/v1/orders/%2e%2e/admin").key(admin))?;
            let heard = scene.upstream.requests() - before;
            held_if(
                answer.status == 400 && heard == 0,
                format!("{}, heard {heard} requests", answer.status),
            )
        },
    );
}

fn attacked(story: &mut Story, scene: &Scene<'_>, reader: &str) -> Result<Attacked> {
    let client = scene.client(Family::V4);
    let steady = client.steadily(orders().key(reader), Duration::from_millis(2));
    let host = HOST_FOR_ATTACKER.of(Family::V4);
    let train = Train::start(&scene.lab.attacker, host, Duration::from_micros(500))?;
    train.wait_for_answer_since(Instant::now())?;

    let attacker = scene.attacker(Family::V4);
    let mut connection = attacker.connect(Http::One)?;
    let answers = guess(&mut connection, KeyGuesses::default().take(THRESHOLD));
    let crossed = Instant::now();
    story.promise(&format!("{THRESHOLD} guesses get one and the same 401"), || {
        let bodies: Vec<_> = answers?.iter().map(without_id).collect::<Result<_>>()?;
        let same = bodies.iter().all(|body| body == bodies.first().unwrap_or(body));
        held_if(same && bodies.len() == THRESHOLD, format!("{} answers", bodies.len()))
    });
    story.promise("then the kernel drops the attacker's packets", || {
        train.wait_for_silence(20, Duration::from_millis(30))?;
        let echoes = train.stop();
        let lost = echoes.iter().find(|echo| echo.sent >= crossed && echo.answered.is_none());
        let lost = lost.context("no echo was lost")?.sent.saturating_duration_since(crossed);
        held_if(lost < AT_ONCE, format!("first lost packet after {lost:.1?}"))
    });
    let mut block = String::new();
    story.promise("the drops are counted, and the block says who decided and why", || {
        let row = scene.block_of(&ATTACKER.v4.to_string())?;
        block = text(&row, "/id")?;
        let packets = row.pointer("/kernel/packets").and_then(|n| n.as_u64()).unwrap_or(0);
        held_if(
            packets > 0,
            format!(
                "{block} by {}: {}; {packets} packets dropped",
                row.pointer("/author").context("no author")?,
                text(&row, "/reason")?
            ),
        )
    });
    story.promise("the attacker's open connection is cut, a new one never forms", || {
        let again = connection.ask(&orders());
        let fresh = scene.lab.attacker.run(|| {
            std::net::TcpStream::connect_timeout(
                &HOST_FOR_ATTACKER.at(Family::V4, PORT),
                Duration::from_millis(300),
            )
        })?;
        held_if(again.is_err() && fresh.is_err(), "both attempts fail".to_owned())
    });
    story.promise("the client was served all along", || {
        let tally = steady.finish()?;
        held_if(
            tally.is_spotless(),
            format!("{} answers, slowest {:.1?}", tally.served, tally.slowest),
        )
    });
    Ok(Attacked { block })
}

fn operated(story: &mut Story, scene: &Scene<'_>, reader: &str) -> Result<()> {
    let target = CLIENT.v6.to_string();
    let ping = Ping::new(&scene.lab.client, HOST_FOR_CLIENT.of(Family::V6))?;
    ping.until_answered()?;
    story.promise("`quarantine` of the client is in the kernel when it returns", || {
        let done =
            scene.site.enforcer(&["quarantine", &target, "--for", "5m", "--reason", "demo"])?;
        let passed = ping.once(Duration::from_millis(200))?;
        held_if(done.is_success() && passed.is_none(), done.stdout)
    });
    story.promise("`release` lets it in again", || {
        let done = scene.site.enforcer(&["release", &target])?;
        ping.until_answered()?;
        let answer = scene.client(Family::V6).ask(&orders().key(reader))?;
        held_if(done.is_success() && answer.status == 200, done.stdout)
    });
    story.promise("a guard keeps operators from shutting out the monitoring", || {
        let words = ["quarantine", "10.77.9.7", "--reason", "a slip of the finger"];
        let refused = scene.site.enforcer(&words)?;
        held_if(refused.code == Some(4), refused.stderr)
    });
    Ok(())
}

fn listed(story: &mut Story, scene: &Scene<'_>) -> Result<()> {
    let target = ATTACKER.v6.to_string();
    let ping = Ping::new(&scene.lab.attacker, HOST_FOR_ATTACKER.of(Family::V6))?;
    ping.until_answered()?;
    // One of many is the attacker's other address, and one should never have come with a feed.
    let mut feed = format!("; a feed\n{target}\n10.77.9.7\n");
    for number in 0..FEED {
        writeln!(feed, "{}", Ipv4Addr::from_bits(0x6440_0000 + number * 7))?;
    }
    let file = scene.site.folder().join("feed.txt");
    fs::write(&file, feed)?;
    let file = file.to_str().context("the feed's path is not UTF-8")?;
    story.promise(
        &format!("{FEED} networks are in the kernel in one step, the monitoring not"),
        || {
            let done = scene.site.enforcer(&["blocks", "import", file, "--reason", "demo"])?;
            let passed = ping.once(Duration::from_millis(200))?;
            // Exit 6 says that a part was not done: what a guard protects.
            let is_so =
                done.code == Some(6) && done.stdout.contains("never-block list `monitoring`");
            held_if(is_so && passed.is_none(), done.stdout)
        },
    );
    story.promise("`blocks --why` tells what the kernel looks at, step by step", || {
        let why = scene.site.enforcer(&["blocks", "--why", &target])?;
        let is_so = why.stdout.contains("kernel  drop (blocked)") && why.stdout.contains("feed");
        held_if(is_so, why.stdout)
    });
    story.promise("`release list:feed` ends them all at once", || {
        let done = scene.site.enforcer(&["release", "list:feed"])?;
        ping.until_answered()?;
        held_if(done.is_success(), done.stdout)
    });
    Ok(())
}

fn evidence(story: &mut Story, scene: &Scene<'_>, attacked: &Attacked) {
    let audit = scene.site.state().join("audit");
    story.promise("`trail` tells what the attacker did, and what followed", || {
        let who = ATTACKER.v4.to_string();
        let trail = scene.on_log(&["trail", &who])?;
        let guesses = trail.stdout.matches("key-malformed").count();
        held_if(
            trail.is_success() && guesses >= THRESHOLD && trail.stdout.contains(&attacked.block),
            format!("{guesses} refused guesses, and {}", attacked.block),
        )
    });
    story.promise("`audit verify` holds", || {
        let verified = scene.verify(&audit)?;
        held_if(verified.is_success(), verified.stdout)
    });
    story.promise("one flipped bit in a copy is found", || {
        let copy = scene.site.folder().join("copy");
        copy_folder(&audit, &copy)?;
        flip_one_bit(&copy)?;
        let verified = scene.verify(&copy)?;
        held_if(verified.code == Some(7), first_line(&verified.stderr))
    });
}

fn killed(story: &mut Story, scene: &Scene<'_>, agent: Agent, reader: &str) -> Result<()> {
    let blocked = Ping::new(&scene.lab.attacker, HOST_FOR_ATTACKER.of(Family::V4))?;
    story.promise("kill -9 of the agent leaves the block in force", || {
        agent.kill()?;
        let passed = blocked.once(Duration::from_millis(300))?;
        let held = scene.site.program(&[
            "blocks",
            "--from-kernel",
            "--policy",
            scene.site.policy().to_str().context("the policy's path is not UTF-8")?,
        ])?;
        held_if(passed.is_none() && held.stdout.contains(&ATTACKER.v4.to_string()), held.stdout)
    });
    let begun = Instant::now();
    let agent = scene.site.start()?;
    story.step(&format!("the agent is back after {:.1?}", begun.elapsed()));
    story.promise("after the restart the block is still there and nothing differs", || {
        let passed = blocked.once(Duration::from_millis(200))?;
        let verified = scene.site.enforcer(&["blocks", "--verify"])?;
        held_if(verified.is_success() && passed.is_none(), verified.stdout)
    });
    story.promise(
        "released by the operator, the attacker can knock again, and nothing is forgotten",
        || {
            let done = scene.site.enforcer(&["release", &ATTACKER.v4.to_string()])?;
            blocked.until_answered()?;
            let answer = scene.client(Family::V4).ask(&orders().key(reader))?;
            let verified = scene.verify(&scene.site.state().join("audit"))?;
            held_if(
                done.is_success() && answer.status == 200 && verified.is_success(),
                format!("{}\n{}", done.stdout.trim_end(), verified.stdout),
            )
        },
    );
    ensure!(agent.terminate()?.success(), "the agent did not end well");
    Ok(())
}

impl Scene<'_> {
    fn client(&self, family: Family) -> Client {
        self.site.client(&self.lab.client, HOST_FOR_CLIENT, family)
    }

    fn attacker(&self, family: Family) -> Client {
        self.site.client(&self.lab.attacker, HOST_FOR_ATTACKER, family)
    }

    fn kernel_part_is_on(&self) -> Result<String> {
        let status = self.site.json(&["status"])?;
        let interfaces = status.pointer("/kernel/interfaces").and_then(|list| list.as_array());
        let interfaces: Vec<_> =
            interfaces.into_iter().flatten().filter_map(|name| name.as_str()).collect();
        let native = interfaces.iter().filter(|name| name.ends_with("xdp-native")).count();
        let problem = status.pointer("/kernel/problem").and_then(|problem| problem.as_str());
        held_if(native == 2, format!("{}{}", interfaces.join(", "), problem.unwrap_or_default()))
    }

    fn issue(&self, name: &str, role: &str) -> Result<String> {
        let issued = self.site.json(&["keys", "issue", "--name", name, "--role", role])?;
        text(&issued, "/credential")
    }

    fn block_of(&self, target: &str) -> Result<serde_json::Value> {
        let mut found = None;
        wait_until("the attacker stands in the list of blocks", DEADLINE, || {
            let rows = self.site.json(&["blocks"]).ok();
            let rows = rows.as_ref().and_then(|rows| rows.as_array());
            found = rows.into_iter().flatten().find(|row| row["target"] == target).cloned();
            found.is_some()
        })?;
        found.context("no block")
    }

    /// A verb that reads the log without the agent.
    fn on_log(&self, words: &[&str]) -> Result<Output> {
        let policy = self.site.policy();
        let mut arguments = vec!["--policy", policy.to_str().context("not UTF-8")?];
        arguments.extend(words);
        self.site.program(&arguments)
    }

    fn verify(&self, log: &Path) -> Result<Output> {
        self.on_log(&["audit", "verify", "--log", log.to_str().context("not UTF-8")?])
    }
}

fn orders() -> Ask {
    Ask::get("/v1/orders")
}

/// An answer's body without the request's id, the one thing in which refusals differ.
fn without_id(answer: &Answer) -> Result<String> {
    let mut body: serde_json::Value = serde_json::from_str(&answer.text())?;
    if let Some(members) = body.as_object_mut() {
        members.retain(|name, _| name != "request_id" && name != "instance");
    }
    Ok(body.to_string())
}

fn text(value: &serde_json::Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(|found| found.as_str());
    found.map(str::to_owned).with_context(|| format!("no {pointer} in {value}"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}

/// Flips the lowest bit in the middle of the records.
fn flip_one_bit(folder: &Path) -> Result<()> {
    let mut segments = fs::read_dir(folder.join("segments"))?;
    let path = segments.next().context("the copy has no records")??.path();
    let mut bytes = fs::read(&path)?;
    let half = bytes.len() / 2;
    let middle = bytes.get_mut(half).context("the file is empty")?;
    *middle ^= 1;
    Ok(fs::write(&path, bytes)?)
}

fn stay(lab: &Lab) -> Result<()> {
    println!("\nThe lab stays up. In another terminal, as root:");
    for host in [&lab.client, &lab.attacker, &lab.host] {
        println!("  {:<9} nsenter -t {} -n -m bash", host.name(), host.keeper());
    }
    println!("Ctrl-C takes it down.");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c()).context("waiting for Ctrl-C")
}
