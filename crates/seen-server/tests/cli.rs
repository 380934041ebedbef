//! The binary as a person or a script runs it.

use std::process::{Command, Output};

fn seen(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_seen"))
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("SEEN_CONFIG")
        .output()
        .expect("the binary starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn config_prints_values_with_their_origin() {
    let output = seen(&["config", "--set", "cache.memory=8GiB"]);
    assert!(output.status.success());
    let line = stdout(&output).lines().find(|line| line.starts_with("cache.memory "));
    let words: Vec<&str> = line.expect("a line").split_whitespace().collect();
    assert_eq!(words, ["cache.memory", "8GiB", "flag", "--set"]);
    let json: serde_json::Value =
        serde_json::from_slice(&seen(&["config", "--json"]).stdout).expect("JSON");
    assert_eq!(json["server.listen"]["value"], "127.0.0.1:7420");
    assert_eq!(json["server.listen"]["origin"], "default");
}

#[test]
fn a_refused_configuration_leaves_stdout_empty_and_exits_with_1() {
    let output = seen(&["config", "--set", "cache.memry=8GiB"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("seen: unknown key cache.memry"), "{stderr}");
    assert!(stderr.contains("did you mean cache.memory?"), "{stderr}");
}

#[test]
fn a_printed_example_is_a_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("seen.toml");
    std::fs::write(&path, seen(&["config", "--example"]).stdout).expect("written");
    let output = seen(&["config", "--config", path.to_str().expect("UTF-8")]);
    assert!(output.status.success());
    assert!(stdout(&output).contains("file ") && stdout(&output).contains("seen.toml"));
}

#[test]
fn completions_and_help_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = seen(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("config"), "{shell}");
    }
    assert!(stdout(&seen(&["--help"])).contains("completions"));
    assert_eq!(seen(&["no-such-command"]).status.code(), Some(2));
}
