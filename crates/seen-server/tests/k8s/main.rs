//! What k8s/ comes to by the real kustomize: it fits the schemas of the Kubernetes API, holds together,
//! and says of the binary what the binary is.

mod network;
mod objects;
mod pods;
mod program;
mod runbook;
mod tools;

use std::collections::BTreeSet;
use std::path::Path;

use objects::{Objects, Pod, list};
use program::{Program, Settings};
use seen_cluster::map::SlotMap;
use seen_testbed::or_skip;
use serde_json::json;
use tools::{Tools, root};

/// Everything that is applied, and what it stands on.
const ALL: [&str; 5] = ["base", ONE, PRODUCTION, PREPARE, MONITORING];
/// Those that run something.
const RUNNING: [&str; 3] = [ONE, PRODUCTION, PREPARE];
const ONE: &str = "overlays/one-machine";
const PRODUCTION: &str = "overlays/production";
const PREPARE: &str = "overlays/production/prepare";
const MONITORING: &str = "overlays/monitoring";

/// The settings of a container of a pod, and what runs there.
fn program(objects: &Objects, pod: &Pod<'_>, at: usize, folder: &Path) -> Program {
    let container = pod.containers().nth(at).expect("a container");
    let (path, config) = pod.config(objects, container).expect("a mounted configuration");
    Program::of(pod, container, (&path, config), folder)
}

fn settings(objects: &Objects, pod: &Pod<'_>, folder: &Path) -> Settings {
    let main = pod.containers().count() - 1;
    program(objects, pod, main, folder).settings().expect("accepted")
}

/// What is wrong with an overlay, a line each.
fn faults(rendered: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let objects = Objects::parse(rendered);
    let mut faults = network::faults(&objects);
    for pod in objects.pods() {
        faults.extend(pods::faults(&objects, &pod, &settings(&objects, &pod, folder.path())));
    }
    faults.join("\n")
}

#[test]
fn every_overlay_fits_the_schemas_strictly() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rendered.yaml");
    for overlay in ALL {
        let rendered = tools.render(overlay);
        std::fs::write(&file, &rendered).expect("written");
        assert_eq!(tools.invalid(&file), [""; 0], "{overlay}");
    }
    // And they would find something.
    let rendered = tools.render(MONITORING);
    for (right, wrong) in
        [("  endpoints:", "  endpoint:"), ("kind: ServiceMonitor", "kind: Monitor")]
    {
        std::fs::write(&file, rendered.replace(right, wrong)).expect("written");
        assert!(!tools.invalid(&file).is_empty(), "{wrong}");
    }
}

#[test]
fn every_overlay_holds_together() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    for overlay in RUNNING {
        assert_eq!(faults(&tools.render(overlay)), "", "{overlay}");
    }
}

/// Ways to break the production overlay: what, by what, and the fault that is found.
const BROKEN: [(&str, &str, &str); 18] = [
    ("path: /readyz", "path: /ready", "readinessProbe does not ask for /readyz"),
    (
        "path: /livez\n            port: http",
        "path: /livez\n            port: grpc",
        "livenessProbe",
    ),
    ("containerPort: 7420", "containerPort: 7421", "the port grpc is 7421"),
    (
        "link_listen = \"0.0.0.0:7430\"",
        "link_listen = \"0.0.0.0:7431\"",
        "cluster.link_listen 0.0.0.0:7431",
    ),
    (
        "    http_listen",
        "    admin_listen = \"0.0.0.0:7421\"\n    http_listen",
        "asks for no credentials",
    ),
    ("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 55", "may need 55"),
    (
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "/readOnlyRootFilesystem is false",
    ),
    ("runAsNonRoot: true", "runAsNonRoot: false", "/runAsNonRoot is false"),
    ("map = \"/etc/seen/map/", "map = \"/etc/seen/maps/", "cluster.map is mounted nowhere"),
    ("seen-mysql/password", "seen-mysql/pass", "mysql.password_file is not the Secret's"),
    ("memory = \"4GiB\"", "memory = \"6GiB\"", "for a cache.memory of"),
    ("port: 7430", "port: 7431", "leads nowhere"),
    ("serviceName: seen-replica-feed-0", "serviceName: seen-proxy", "has no Service that names"),
    (
        "seen/slot: \"0\"\n  serviceName",
        "seen/slot: \"1\"\n  serviceName",
        "does not select its own pods",
    ),
    (
        "seen/slot: \"0\"\n        maxSkew",
        "seen/slot: \"1\"\n        maxSkew",
        "spreads others' pods",
    ),
    ("      seen/slot: \"0\"\n---", "      seen/slot: \"7\"\n---", "not that of one workload"),
    ("minReadySeconds: 5", "minReadySeconds: 5\n  replicas: 3", "fights with a number"),
    (
        "component: proxy\n      app.kubernetes.io/name: seen\n  policyTypes",
        "component: other\n      app.kubernetes.io/name: seen\n  policyTypes",
        "the policy seen-proxy is about no pod",
    ),
];

#[test]
fn what_does_not_hold_together_is_found() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let rendered = tools.render(PRODUCTION);
    let changed = |from: &str, to: &str| {
        assert!(rendered.contains(from), "{from} is not there");
        faults(&rendered.replacen(from, to, 1))
    };
    for (from, to, fault) in BROKEN {
        let all = changed(from, to);
        assert!(all.contains(fault), "{to:?}: {all:?}");
    }
}

#[test]
fn who_may_reach_whom_is_limited_to_what_is_needed() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let metrics = "7422 from kubernetes.io/metadata.name=monitoring";
    let names = "53 at kubernetes.io/metadata.name=kube-system k8s-app=kube-dns";
    for overlay in RUNNING {
        let objects = Objects::parse(&tools.render(overlay));
        for pod in objects.pods() {
            let settings = settings(&objects, &pod, folder.path());
            let storage = || {
                let servers = network::outside(&settings, "mysql.servers");
                servers.into_iter().chain(network::outside(&settings, "kafka.brokers"))
            };
            let (within, without): (Vec<&str>, Vec<String>) = match pod.component() {
                "proxy" => {
                    (vec!["7420 from seen/client=true", metrics], vec!["7430 at replica".into()])
                }
                "replica" => {
                    let without = storage().chain(["7430 at replica".into()]).collect();
                    (vec!["7430 from proxy", "7430 from replica", metrics], without)
                }
                "server" => (vec!["7420 from seen/client=true", metrics], Vec::new()),
                "prepare" => (Vec::new(), storage().collect()),
                other => panic!("{other}: who may reach it?"),
            };
            let within: BTreeSet<String> = within.into_iter().map(str::to_owned).collect();
            let without: BTreeSet<String> = without.into_iter().chain([names.to_owned()]).collect();
            assert_eq!(network::let_in(&objects, &pod), within, "{}", pod.name);
            assert_eq!(network::let_out(&objects, &pod), without, "{}", pod.name);
        }
    }
}

#[test]
fn every_pod_is_scraped_once_and_grafana_gets_the_dashboard() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let monitoring = Objects::parse(&tools.render(MONITORING));
    let monitor = monitoring.named("ServiceMonitor", "seen").expect("a monitor");
    for overlay in [ONE, PRODUCTION] {
        let objects = Objects::parse(&tools.render(overlay));
        assert!(network::scraped_once(monitor, &objects), "{overlay}");
    }
    let dashboard = root().join("crates/seen-server/dashboards/seen.json");
    let dashboard = std::fs::read_to_string(dashboard).expect("readable");
    assert_eq!(monitoring.file("seen-dashboard", "seen.json"), Some(dashboard.as_str()));
}

#[test]
fn the_image_is_what_the_manifests_run() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("a Dockerfile");
    let of = |word: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|rest| rest.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("ENTRYPOINT"), ["[\"/usr/local/bin/seen\"]"]);
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(of("EXPOSE"), ["7420 7421 7422 7430"]);
    let builder = format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(of("FROM")[0].starts_with(&builder), "{:?}", of("FROM"));
}

#[test]
fn the_runbook_names_metrics_options_and_commands_that_there_are() {
    let text = std::fs::read_to_string(root().join("docs/runbook.md")).expect("a runbook");
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(runbook::unknown_metrics(&text), [""; 0]);
    assert_eq!(runbook::unknown_options(&text), [""; 0]);
    assert_eq!(runbook::unknown_files(&text), [""; 0]);
    let commands = runbook::commands(&text);
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        assert_eq!(program::knows(&command, folder.path()), Ok(()), "seen {command}");
    }
}

#[test]
fn what_the_runbook_names_in_vain_is_found() {
    let text = "`seen_lost_total` of `seen_requests_total`, `cache.memory`, `cache.memories`,\n\
                `base/slot`, `base/slots`, `seen feed status`, `seen feed statue`";
    assert_eq!(runbook::unknown_metrics(text), ["seen_lost_total"]);
    assert_eq!(runbook::unknown_options(text), ["cache.memories"]);
    assert_eq!(runbook::unknown_files(text), ["base/slots"]);
    assert_eq!(runbook::commands(text), ["feed statue", "feed status"]);
}

#[test]
fn every_container_is_a_command_that_the_binary_knows() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for overlay in RUNNING {
        let objects = Objects::parse(&tools.render(overlay));
        for pod in objects.pods() {
            for at in 0..pod.containers().count() {
                let program = program(&objects, &pod, at, folder.path());
                assert_eq!(program.knows_its_arguments(), Ok(()), "{}", pod.name);
                let settings = program.settings().expect("accepted");
                for name in program.variables.keys() {
                    let key = name.trim_start_matches("SEEN_").to_lowercase().replace("__", ".");
                    assert!(settings.origin(&key).contains(name.as_str()), "{}: {name}", pod.name);
                }
            }
            let main = pod.main();
            let stated = list(&main["env"]).iter().find(|one| one["name"] == "SEEN_CONFIG");
            if let Some(stated) = stated {
                let (path, _) = pod.config(&objects, main).expect("a configuration");
                assert_eq!(stated["value"], path, "{}", pod.name);
            }
        }
    }
}

#[test]
fn configurations_say_only_what_differs_from_the_example() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for overlay in RUNNING {
        let objects = Objects::parse(&tools.render(overlay));
        let pods = objects.pods();
        let configured = program(&objects, &pods[0], 0, folder.path());
        let said = configured.settings().expect("accepted");
        let example = configured.settings_with(&root().join("seen.example.toml"));
        let example = example.expect("accepted");
        let said = said.of_files();
        assert!(said.len() > 2, "{overlay}: {said:?}");
        for (key, value) in said {
            assert_ne!(example.value(key), value, "{overlay}: {key} is the default");
        }
    }
}

#[test]
fn the_map_names_the_replicas_that_run() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let objects = Objects::parse(&tools.render(PRODUCTION));
    let map = SlotMap::parse(objects.file("seen-map", "cluster.toml").expect("a map"));
    let map = map.expect("a map of slots");
    assert_eq!(network::of_map(&map), network::of_pods(&objects));
    // As `seen cluster init` prints it, its store's own values apart.
    let prepare = Objects::parse(&tools.render(PREPARE));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let printed =
        program(&prepare, &prepare.pods()[0], 1, folder.path()).to_the_end(&embedded(&folder));
    let mut printed = SlotMap::parse(&printed.expect("a map")).expect("a map of slots").to_draft();
    let example = map.to_draft();
    assert_ne!(printed.cluster, example.cluster);
    printed.cluster = example.cluster;
    printed.slot_key = example.slot_key;
    printed.settings = example.settings.clone();
    assert_eq!(printed, example);
}

/// Settings that keep the histories in this folder.
fn embedded(folder: &tempfile::TempDir) -> Vec<(&'static str, String)> {
    let data = folder.path().join("data").display().to_string();
    vec![("storage.kind", "sqlite".to_owned()), ("storage.data_dir", data)]
}

#[test]
fn one_machine_starts_with_its_configuration_and_answers_its_probes() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let objects = Objects::parse(&tools.render(ONE));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(&objects, &objects.pods()[0], 0, folder.path());
    let mut running = program.start(program::free_port(), &embedded(&folder));
    for path in pods::PROBED {
        running.answers(path, 200);
    }
    assert!(running.ask("/metrics").contains("seen_requests_total"));
    assert!(running.ask("/health").starts_with("HTTP/1.1 404"));
    running.terminate();
}

#[test]
fn a_replica_and_a_proxy_start_with_their_configuration_and_answer_their_probes() {
    let Some(tools) = or_skip(Tools::find()) else { return };
    let objects = Objects::parse(&tools.render(PRODUCTION));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pods = objects.pods();
    let pod = |name: &str| pods.iter().find(|pod| pod.name == name).expect("it is there");
    let link = format!("127.0.0.1:{}", program::free_port());
    // Everything but what is elsewhere: storage, the other replicas, and their names.
    let prepare = Objects::parse(&tools.render(PREPARE));
    let mut made = program(&prepare, &prepare.pods()[0], 1, folder.path());
    made.keep_arguments(|argument| !argument.starts_with("--replica="));
    made.add_argument(&format!("--replica=feed/0={link}"));
    let map = folder.path().join("cluster.toml");
    std::fs::write(&map, made.to_the_end(&embedded(&folder)).expect("a map")).expect("written");
    let mut options = embedded(&folder);
    options.push(("cluster.map", map.display().to_string()));
    options.push(("cluster.link_listen", link));
    let mut running: Vec<_> = ["StatefulSet/seen-replica-feed-0", "Deployment/seen-proxy"]
        .map(|name| {
            let program = program(&objects, pod(name), 0, folder.path());
            assert_eq!(pod(name).port(&json!("http")), Some(7_422));
            program.start(program::free_port(), &options)
        })
        .into();
    for one in &mut running {
        for path in pods::PROBED {
            one.answers(path, 200);
        }
        assert!(one.ask("/metrics").contains("# HELP seen_"));
    }
    // Proxies end first in a map's life, and replicas with nobody to ask them.
    running.into_iter().rev().for_each(program::Running::terminate);
}
