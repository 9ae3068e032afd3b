//! The command line as a stranger meets it.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate-sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_run_prints_its_timeline_and_a_verdict() {
    let output = sim(&["--seed", "1", "--devices", "2", "--hours", "12", "--faults", "none"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert!(out.contains("operator: release 1 (Good)"), "{out}");
    assert!(out.contains("device-hours a second"), "{out}");
    assert!(out.ends_with("every invariant held\n"), "{out}");
}

#[test]
fn bad_arguments_are_answered_with_what_would_be_good() {
    let cases: [(&[&str], &str); 5] = [
        (&["--devices", "0"], "a fleet has 1 to 100000 devices"),
        (&["--hours", "0"], "a run has 1 to"),
        (&["--faults", "gremlins"], "there are: offline"),
        (&["--replay", "/nowhere.toml"], "/nowhere.toml"),
        (&["--seeds", "3", "--shrink"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let output = sim(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn a_scenario_that_is_printed_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.toml");
    let size = ["--devices", "2", "--hours", "12"];
    let printed = sim(&[&["--seed", "9", "--print"], size.as_slice()].concat());
    std::fs::write(&file, &printed.stdout).unwrap();
    let line = |output: &Output| {
        let out = text(&output.stdout);
        let mut lines = out.lines().map(str::to_owned);
        lines.find(|line| line.starts_with("invariants checked")).unwrap()
    };
    let direct = sim(&[&["--seed", "9", "--quiet"], size.as_slice()].concat());
    let replayed = sim(&["--replay", file.to_str().unwrap(), "--quiet"]);
    assert_eq!(line(&direct), line(&replayed));
    let broken = folder.path().join("two.toml");
    std::fs::write(&broken, "seed = 1\ndevices = 1\n").unwrap();
    let error = text(&sim(&["--replay", broken.to_str().unwrap()]).stderr);
    assert!(error.contains("two.toml is no scenario") && error.contains("hours"), "{error}");
}

#[test]
fn everything_that_can_be_named_is_listed() {
    let out = text(&sim(&["--list"]).stdout);
    for name in ["power-cut", "mirror-stale", "runnable-model", "liveness"] {
        assert!(out.contains(name), "{out}");
    }
}
