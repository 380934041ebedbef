//! What a pod must be: hardened, whole, and what the binary's configuration says.

use serde_json::{Value, json};

use super::objects::{Objects, Pod, list, name};
use super::program::Settings;

/// What the binary answers on its HTTP port; a test asks it.
pub const PROBED: [&str; 2] = ["/livez", "/readyz"];
/// What the operator makes by hand: the Secret's name, and its key.
const SECRET: (&str, &str) = ("seen-mysql", "password");
/// How long closing the store may take after the drain: `CLOSE_MAX` of the node.
const CLOSE_MAX_S: u64 = 30;

/// What is wrong with a pod whose main container has these settings, a line each.
pub fn faults(objects: &Objects, pod: &Pod<'_>, settings: &Settings) -> Vec<String> {
    let mut faults = hardened(objects, pod);
    faults.extend(pod.containers().flat_map(|container| volumes(objects, pod, container)));
    faults.extend(files(objects, pod, settings));
    if pod.component() != "prepare" {
        faults.extend(ports(pod, settings));
        faults.extend(probes(pod));
        faults.extend(end(pod, settings));
        faults.extend(room(pod, settings));
    }
    faults.iter().map(|fault| format!("{}: {fault}", pod.name)).collect()
}

/// Rights that it has and must not have.
fn hardened(objects: &Objects, pod: &Pod<'_>) -> Vec<String> {
    let spec = [
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/runAsUser", json!(65_532)),
        ("/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/automountServiceAccountToken", json!(false)),
        ("/enableServiceLinks", json!(false)),
    ];
    let container = [
        ("/securityContext/readOnlyRootFilesystem", json!(true)),
        ("/securityContext/allowPrivilegeEscalation", json!(false)),
        ("/securityContext/capabilities/drop", json!(["ALL"])),
        ("/securityContext/capabilities/add", Value::Null),
        ("/securityContext/privileged", Value::Null),
        ("/image", json!(concat!("registry.example.com/seen:", env!("CARGO_PKG_VERSION")))),
    ];
    let mut faults = differing(pod.spec, &spec);
    faults.extend(pod.containers().flat_map(|one| differing(one, &container)));
    if let Some(account) = pod.spec["serviceAccountName"].as_str() {
        let made = objects.named("ServiceAccount", account);
        if made.is_none_or(|account| account["automountServiceAccountToken"] != false) {
            faults.push(format!("the account {account} is missing or mounts its token"));
        }
    }
    faults
}

fn differing(object: &Value, wanted: &[(&str, Value)]) -> Vec<String> {
    let is = |path: &str| object.pointer(path).cloned().unwrap_or_default();
    let wrong = wanted.iter().filter(|(path, value)| is(path) != *value);
    wrong.map(|(path, value)| format!("{path} is {}, not {value}", is(path))).collect()
}

/// Volumes without a source or a use.
fn volumes(objects: &Objects, pod: &Pod<'_>, container: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let claims = list(&pod.workload["spec"]["volumeClaimTemplates"]);
    let claims: Vec<&str> = claims.iter().map(name).collect();
    let volumes = list(&pod.spec["volumes"]);
    for mount in list(&container["volumeMounts"]) {
        let known = volumes.iter().any(|volume| volume["name"] == mount["name"]);
        if !known && !claims.iter().any(|claim| mount["name"] == *claim) {
            faults.push(format!("{} is mounted and no volume", mount["name"]));
        }
    }
    for volume in volumes {
        let used = list(&container["volumeMounts"]).iter().any(|one| one["name"] == volume["name"]);
        let map = &volume["configMap"]["name"];
        if map.as_str().is_some_and(|map| objects.named("ConfigMap", map).is_none()) {
            faults.push(format!("the ConfigMap {map} is not there"));
        }
        if !used {
            faults.push(format!("the volume {} is mounted nowhere", volume["name"]));
        }
    }
    faults
}

/// Files of the configuration that are mounted elsewhere, or not at all.
fn files(objects: &Objects, pod: &Pod<'_>, settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let source = |key: &str| pod.source_of(pod.main(), settings.text(key));
    if ["proxy", "replica"].contains(&pod.component()) {
        let found = source("cluster.map").and_then(|(map, key)| objects.file(&map, &key));
        if found.is_none() {
            faults.push("cluster.map is mounted nowhere".to_owned());
        }
    }
    let storage = settings.text("storage.kind") == "mysql" && pod.component() != "proxy";
    let secret = (SECRET.0.to_owned(), SECRET.1.to_owned());
    if storage && source("mysql.password_file") != Some(secret) {
        faults.push("mysql.password_file is not the Secret's".to_owned());
    }
    let data = settings.text("storage.data_dir");
    let mut mounts = list(&pod.main()["volumeMounts"]).iter();
    if pod.component() == "server" && !mounts.any(|mount| mount["mountPath"] == data) {
        faults.push(format!("nothing is mounted at storage.data_dir {data}"));
    }
    faults
}

/// Ports of the container that the binary does not open to the network, and the other way round.
fn ports(pod: &Pod<'_>, settings: &Settings) -> Vec<String> {
    let mut opened = vec![("grpc", "server.listen"), ("http", "server.http_listen")];
    if pod.component() == "replica" {
        opened.push(("link", "cluster.link_listen"));
    }
    let listed = list(&pod.main()["ports"]).len();
    let mut faults = Vec::new();
    if listed != opened.len() {
        faults.push(format!("{listed} ports instead of {}", opened.len()));
    }
    for (name, key) in opened {
        let port = pod.port(&json!(name)).unwrap_or_default();
        let address = settings.text(key);
        if address != format!("0.0.0.0:{port}") {
            faults.push(format!("the port {name} is {port}, and {key} {address}"));
        }
    }
    let admin = settings.text("server.admin_listen");
    if !admin.starts_with("127.0.0.1:") {
        faults.push(format!("server.admin_listen is {admin}, and asks for no credentials"));
    }
    faults
}

/// Probes that ask for what is not served.
fn probes(pod: &Pod<'_>) -> Vec<String> {
    let probes =
        [("startupProbe", PROBED[0]), ("livenessProbe", PROBED[0]), ("readinessProbe", PROBED[1])];
    let wrong = probes.iter().filter(|(probe, path)| {
        let get = &pod.main()[probe]["httpGet"];
        get["path"] != *path || pod.port(&get["port"]) != pod.port(&json!("http"))
    });
    wrong.map(|(probe, path)| format!("{probe} does not ask for {path} at the port http")).collect()
}

/// An end that is cut off.
fn end(pod: &Pod<'_>, settings: &Settings) -> Vec<String> {
    let drain = humantime::parse_duration(settings.text("server.drain")).expect("a span").as_secs();
    let sleep = pod.main()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    let grace = pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    let Some(sleep) = sleep else {
        return vec!["it ends before callers can know".to_owned()];
    };
    let needed = sleep + drain + CLOSE_MAX_S;
    match grace > needed {
        true => Vec::new(),
        false => vec![format!("killed after {grace} s, and may need {needed}")],
    }
}

/// Memory that the binary may take and does not get, and a share of CPU that throttles it.
fn room(pod: &Pod<'_>, settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let resources = &pod.main()["resources"];
    let limit = bytes(&resources["limits"]["memory"]);
    let cache = bytes(settings.value("cache.memory"));
    if pod.component() != "proxy" && limit < cache + cache / 4 {
        faults.push(format!("{limit} bytes for a cache.memory of {cache}"));
    }
    if !resources["limits"]["cpu"].is_null() || resources["requests"]["cpu"].is_null() {
        faults.push("CPU is to be asked for, and not limited".to_owned());
    }
    faults
}

fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().expect("a quantity").trim_end_matches('B');
    let number = |digits: &str, unit: u32| digits.parse::<u64>().expect("a number") << unit;
    match (text.strip_suffix("Gi"), text.strip_suffix("Mi")) {
        (Some(digits), _) => number(digits, 30),
        (_, Some(digits)) => number(digits, 20),
        _ => panic!("{text}: Gi or Mi"),
    }
}
