//! gRPC between Google's own client and server, with us in between: HTTP/2 on both sides.

use super::{PROGRAM, Scene};

const APP: &str = r#"
[upstream.app]
hosts    = ["127.0.0.1:9002"]
protocol = "http2"

[[route]]
name     = "app"
match    = "*/bench.Echo/{**}"
upstream = "app"
public   = true
body_max = "64MiB"

[[route]]
name     = "guarded"
match    = "*/guarded.Echo/{**}"
upstream = "app"

  [[route.allow]]
  method = "POST"
  role   = "caller"
"#;

fn scene(more: &str) -> Scene {
    let mut scene = Scene::new(&format!("{APP}{more}"));
    scene.start_python("grpc_server.py", &[&PROGRAM.to_string()]);
    scene.wait_for(PROGRAM);
    scene
}

impl Scene {
    fn grpc(&self, case: &str) {
        let ca = self.path("tls/cert.pem");

        let said = self.python("grpc_client.py", &[case, ca.to_str().unwrap()]);

        assert_eq!(said.trim(), "ok", "{case}: {said}\n{}", self.agent.said());
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn calls_of_all_four_kinds_are_answered() {
    let scene = scene("");
    for case in ["unary", "client_streams", "server_streams", "both_stream", "in_turns"] {
        scene.grpc(case);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn statuses_and_metadata_arrive_as_the_server_sent_them() {
    let scene = scene("");
    for case in ["status_only", "status_after_messages", "metadata", "not_implemented"] {
        scene.grpc(case);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn deadlines_and_cancellations_reach_the_server() {
    let scene = scene("");
    for case in ["deadline", "cancelled"] {
        scene.grpc(case);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn large_compressed_and_many_calls_are_answered() {
    let scene = scene("");
    for case in ["megabytes", "compressed", "many_at_once", "slow_reader"] {
        scene.grpc(case);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_call_without_a_right_to_it_is_refused_with_a_status_that_clients_know() {
    let scene = scene("");

    scene.grpc("unauthenticated");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_server_that_goes_away_costs_no_call_that_it_did_not_begin() {
    let mut scene = scene("");
    scene.grpc("unary");
    // It ends as servers do: the connection is told (GOAWAY), what runs is finished.
    let old = scene.programs.pop().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(old.child.id()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    old.ends_well();
    scene.start_python("grpc_server.py", &[&PROGRAM.to_string()]);
    scene.wait_for(PROGRAM);

    scene.grpc("unary");
}
