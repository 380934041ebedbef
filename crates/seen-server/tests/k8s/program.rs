//! The binary, asked about what the manifests say of it, and started as they start it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::objects::{Pod, list};

/// When a program that does not become ready is given up.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// The effective configuration: key to value and origin.
pub struct Settings(Value);

impl Settings {
    /// The value of an option.
    pub fn value(&self, key: &str) -> &Value {
        &self.0[key]["value"]
    }

    /// The value of an option that is text.
    pub fn text(&self, key: &str) -> &str {
        self.value(key).as_str().unwrap_or_default()
    }

    /// Where an option's value comes from.
    pub fn origin(&self, key: &str) -> &str {
        self.0[key]["origin"].as_str().unwrap_or_default()
    }

    /// All options that a file sets: key and value.
    pub fn of_files(&self) -> Vec<(&String, &Value)> {
        let all = self.0.as_object().into_iter().flatten();
        let of_files = all.filter(|(key, _)| self.origin(key).starts_with("file "));
        of_files.map(|(key, one)| (key, &one["value"])).collect()
    }
}

/// The binary, free of what this process's environment says.
fn seen(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEEN_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Whether the binary knows a command, given without `seen`.
pub fn knows(command: &str, folder: &Path) -> Result<(), String> {
    let asked = seen(folder).args(command.split(' ')).arg("--help").output().expect("the binary");
    // Of a command that has none of this name, clap shows the help of the one above.
    let last = command.split(' ').rfind(|word| !word.starts_with('-')).unwrap_or_default();
    let usage = String::from_utf8_lossy(&asked.stdout).into_owned();
    match asked.status.success() && usage.contains(&format!(" {last}")) {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&asked.stderr).into_owned()),
    }
}

/// A pod's container with its configuration in a folder of its own.
pub struct Program {
    folder: PathBuf,
    config: PathBuf,
    args: Vec<String>,
    /// Its environment, as the kubelet makes it; SEEN_CONFIG apart.
    pub variables: BTreeMap<String, String>,
}

impl Program {
    /// Of a container, whose configuration is `config`.
    pub fn of(pod: &Pod<'_>, container: &Value, config: (&str, &str), folder: &Path) -> Self {
        let file = folder.join("seen.toml");
        std::fs::write(&file, config.1).expect("written");
        let path = file.display().to_string();
        let args = list(&container["args"]).iter().filter_map(Value::as_str);
        let variables = list(&container["env"]).iter().map(|one| variable(pod, container, one));
        Self {
            folder: folder.to_owned(),
            config: file,
            args: args.map(|arg| arg.replace(config.0, &path)).collect(),
            variables: variables.filter(|(name, _)| name != "SEEN_CONFIG").collect(),
        }
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let ran: Output =
            seen(&self.folder).args(args).envs(&self.variables).output().expect("the binary");
        match ran.status.success() {
            true => Ok(String::from_utf8(ran.stdout).expect("UTF-8")),
            false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
        }
    }

    /// What the binary makes of the configuration and the environment.
    pub fn settings(&self) -> Result<Settings, String> {
        self.settings_with(&self.config)
    }

    /// What it makes of another configuration.
    pub fn settings_with(&self, config: &Path) -> Result<Settings, String> {
        let config = config.display().to_string();
        let printed = self.run(&["config", "--json", "--config", &config])?;
        Ok(Settings(serde_json::from_str(&printed).expect("JSON")))
    }

    /// Whether the binary knows the command and all of its flags.
    pub fn knows_its_arguments(&self) -> Result<(), String> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).chain(["--help"]).collect();
        self.run(&args).map(|_| ())
    }

    /// Leaves out what does not fit.
    pub fn keep_arguments(&mut self, fits: impl Fn(&str) -> bool) {
        self.args.retain(|argument| fits(argument));
    }

    /// Adds one.
    pub fn add_argument(&mut self, argument: &str) {
        self.args.push(argument.to_owned());
    }

    /// Runs it to its end with these options set; what it printed.
    pub fn to_the_end(&self, options: &[(&str, String)]) -> Result<String, String> {
        let set = flags(options);
        let args = self.args.iter().chain(&set).map(String::as_str);
        self.run(&args.collect::<Vec<_>>())
    }

    /// Starts it with these options set, which let it listen and keep its data here.
    pub fn start(&self, http: u16, options: &[(&str, String)]) -> Running {
        let listen = format!("127.0.0.1:{http}");
        let mut command = seen(&self.folder);
        command.args(&self.args).args(flags(options)).envs(&self.variables);
        command.args(flags(&[
            ("server.listen", "127.0.0.1:0".to_owned()),
            ("server.admin_listen", "127.0.0.1:0".to_owned()),
            ("server.http_listen", listen.clone()),
        ]));
        let log = self.folder.join(format!("log-{http}"));
        let file = std::fs::File::create(&log).expect("a log");
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the binary");
        Running { child, http: listen.parse().expect("an address"), log }
    }
}

fn flags(options: &[(&str, String)]) -> Vec<String> {
    let set = |(key, value): &(&str, String)| ["--set".to_owned(), format!("{key}={value}")];
    options.iter().flat_map(set).collect()
}

/// A variable of a container as the kubelet sets it.
fn variable(pod: &Pod<'_>, container: &Value, one: &Value) -> (String, String) {
    let name = one["name"].as_str().expect("a name").to_owned();
    let from = &one["valueFrom"];
    let value = if let Some(field) = from["fieldRef"]["fieldPath"].as_str() {
        let label =
            field.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']"));
        pod.labels.get(label.expect("a label")).expect("it is there").clone()
    } else if let Some(resource) = from["resourceFieldRef"]["resource"].as_str() {
        assert_eq!(from["resourceFieldRef"]["containerName"], container["name"]);
        assert_eq!(resource, "requests.cpu");
        // Of parts of a core the kubelet makes a whole one.
        cores(&container["resources"]["requests"]["cpu"]).to_string()
    } else {
        one["value"].as_str().expect("a value").to_owned()
    };
    (name, value)
}

fn cores(quantity: &Value) -> u64 {
    let text = quantity.as_str().expect("a quantity");
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<u64>().expect("a number").div_ceil(1_000),
        None => text.parse().expect("a number"),
    }
}

/// A port that nobody has now, and no connection gets by chance.
pub fn free_port() -> u16 {
    let mut ports = (0..2_000).map(|_| rand::random_range(12_000..30_000));
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}

/// A started program. Killed when it is dropped.
pub struct Running {
    child: Child,
    http: SocketAddr,
    log: PathBuf,
}

impl Running {
    /// Asks until the answer has this status; the program must not end meanwhile.
    pub fn answers(&mut self, path: &str, status: u16) {
        let wanted = format!("HTTP/1.1 {status} ");
        let answered = seen_testbed::until(ANSWER_MAX, || {
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "{ended:?} before {path} was {status}: {}", self.log());
            get(self.http, path).ok().filter(|answer| answer.starts_with(&wanted))
        });
        assert!(answered.is_some(), "{path} is never {status}: {}", self.log());
    }

    /// What it answers now.
    pub fn ask(&self, path: &str) -> String {
        get(self.http, path).expect("it answers")
    }

    /// Asks it to end as the kubelet does, and waits.
    pub fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let ended = self.child.wait().expect("it is ours");
        assert!(ended.success(), "{ended:?}: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(from: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(from)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
