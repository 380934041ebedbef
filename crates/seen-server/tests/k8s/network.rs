//! How objects find each other, and who may reach whom.

use std::collections::BTreeSet;

use seen_cluster::map::SlotMap;
use serde_json::{Value, json};

use super::objects::{Labels, Objects, Pod, contains, labels, list, name, selects};
use super::program::Settings;

/// What selects nothing, or something else than it should, a line each.
pub fn faults(objects: &Objects) -> Vec<String> {
    let pods = objects.pods();
    let mut faults: Vec<String> =
        objects.of_kind("Service").flat_map(|service| service_faults(service, &pods)).collect();
    for budget in objects.of_kind("PodDisruptionBudget") {
        if chosen(&budget["spec"]["selector"], &pods).len() != 1 {
            faults.push(format!("the budget {} is not that of one workload", name(budget)));
        }
    }
    for pod in &pods {
        faults.extend(pod_faults(objects, pod, &pods));
    }
    for scaler in objects.of_kind("HorizontalPodAutoscaler") {
        let target = &scaler["spec"]["scaleTargetRef"];
        let target = objects.named("Deployment", target["name"].as_str().unwrap_or_default());
        if target.is_none_or(|target| !target["spec"]["replicas"].is_null()) {
            faults.push(format!("{} scales nothing, or fights with a number", name(scaler)));
        }
    }
    for policy in objects.of_kind("NetworkPolicy") {
        if chosen(&policy["spec"]["podSelector"], &pods).is_empty() {
            faults.push(format!("the policy {} is about no pod", name(policy)));
        }
    }
    faults
}

/// The pods that a selector takes; one that asks for nothing takes none here.
fn chosen<'a, 'p>(selector: &Value, pods: &'p [Pod<'a>]) -> Vec<&'p Pod<'a>> {
    let asks = selector.as_object().is_some_and(|asks| !asks.is_empty());
    pods.iter().filter(|pod| asks && selects(selector, &pod.labels)).collect()
}

fn service_faults(service: &Value, pods: &[Pod<'_>]) -> Vec<String> {
    let (spec, name) = (&service["spec"], name(service));
    let selected = chosen(&json!({ "matchLabels": spec["selector"] }), pods);
    if selected.len() != 1 {
        return vec![format!("the Service {name} selects {} workloads", selected.len())];
    }
    let headless = spec["clusterIP"] == "None";
    let wrong = list(&spec["ports"]).iter().filter(|port| {
        let behind = selected[0].port(&port["targetPort"]);
        // Without an address of its own nothing translates ports.
        behind.is_none() || (headless && behind != port["port"].as_u64())
    });
    wrong.map(|port| format!("the Service {name}: {port} leads nowhere")).collect()
}

fn pod_faults(objects: &Objects, pod: &Pod<'_>, pods: &[Pod<'_>]) -> Vec<String> {
    let mut faults = Vec::new();
    let only_itself = |selector: &Value| {
        let chosen = chosen(selector, pods);
        chosen.len() == 1 && chosen[0].name == pod.name
    };
    if pod.component() != "prepare" && !only_itself(&pod.workload["spec"]["selector"]) {
        faults.push(format!("{} does not select its own pods alone", pod.name));
    }
    for spread in list(&pod.spec["topologySpreadConstraints"]) {
        if !only_itself(&spread["labelSelector"]) {
            faults.push(format!("{} spreads others' pods", pod.name));
        }
    }
    if let Some(service) = pod.workload["spec"]["serviceName"].as_str() {
        let service = objects.named("Service", service).map(|service| &service["spec"]);
        let names = service.is_some_and(|spec| {
            spec["clusterIP"] == "None" && only_itself(&json!({ "matchLabels": spec["selector"] }))
        });
        if !names {
            faults.push(format!("{} has no Service that names its pods", pod.name));
        }
    }
    faults
}

/// Who may reach each port of a pod, as in `link from replica`.
pub fn let_in(objects: &Objects, pod: &Pod<'_>) -> BTreeSet<String> {
    let pods = objects.pods();
    let mut all = BTreeSet::new();
    for rule in rules(objects, pod, "Ingress", "ingress") {
        for (port, from) in pairs(rule, "from") {
            if let Some(number) = pod.port(&port["port"]) {
                let peers = peers(&from, &pods).into_iter();
                all.extend(peers.map(|peer| format!("{number} from {peer}")));
            }
        }
    }
    all
}

/// Whom a pod may reach, as in `7430 at replica`.
pub fn let_out(objects: &Objects, pod: &Pod<'_>) -> BTreeSet<String> {
    let pods = objects.pods();
    let mut all = BTreeSet::new();
    for rule in rules(objects, pod, "Egress", "egress") {
        for (port, to) in pairs(rule, "to") {
            for peer in peers(&to, &pods) {
                let ours = pods.iter().find(|pod| pod.component() == peer);
                let number = ours.map_or(port["port"].as_u64(), |pod| pod.port(&port["port"]));
                all.insert(format!("{} at {peer}", number.unwrap_or_default()));
            }
        }
    }
    all
}

/// The rules of all policies about a pod in one direction.
fn rules<'a>(objects: &'a Objects, pod: &Pod<'_>, kind: &str, key: &'a str) -> Vec<&'a Value> {
    let about = objects.of_kind("NetworkPolicy").map(|policy| &policy["spec"]);
    let about: Vec<&Value> = about
        .filter(|spec| selects(&spec["podSelector"], &pod.labels))
        .filter(|spec| list(&spec["policyTypes"]).iter().any(|one| one == kind))
        .collect();
    assert!(!about.is_empty(), "{kind} of {} is not limited", pod.name);
    about.into_iter().flat_map(move |spec| list(&spec[key])).collect()
}

/// Each port of a rule with each peer.
fn pairs(rule: &Value, key: &str) -> Vec<(Value, Value)> {
    let (ports, peers) = (list(&rule["ports"]), list(&rule[key]));
    assert!(!ports.is_empty() && !peers.is_empty(), "a rule for all: {rule}");
    let both = |port: &Value| {
        let port = port.clone();
        peers.iter().map(move |peer| (port.clone(), peer.clone())).collect::<Vec<_>>()
    };
    ports.iter().flat_map(both).collect()
}

/// Whom a peer stands for: parts of ours, or labels of others.
fn peers(peer: &Value, pods: &[Pod<'_>]) -> BTreeSet<String> {
    let (space, selector) = (&peer["namespaceSelector"], &peer["podSelector"]);
    let parts = |selector: &Value| {
        let chosen = chosen(selector, pods).into_iter();
        chosen.map(|pod| pod.component().to_owned()).collect::<BTreeSet<_>>()
    };
    if space.is_null() {
        let parts = parts(selector);
        return if parts.is_empty() { [format!("nobody: {selector}")].into() } else { parts };
    }
    let shown = |selector: &Value| {
        let shown = |(key, value): (&String, &String)| format!("{key}={value}");
        labels(&selector["matchLabels"]).iter().map(shown).collect::<Vec<_>>()
    };
    [[shown(space), shown(selector)].concat().join(" ")].into()
}

/// Where a name of a Service's lies, and the port, of addresses in an option.
pub fn outside(settings: &Settings, key: &str) -> BTreeSet<String> {
    let addresses = settings.text(key).split([',', ';']);
    let place = |address: &str| {
        let (host, port) = address.trim().rsplit_once(':').expect("host:port");
        let (before, _) = host.split_once(".svc").expect("the name of a Service");
        let space = before.rsplit('.').next().unwrap_or_default();
        format!("{port} at kubernetes.io/metadata.name={space}")
    };
    addresses.map(place).collect()
}

/// The replicas of a map: pool, slot, address.
pub fn of_map(map: &SlotMap) -> BTreeSet<(String, u16, String)> {
    let mut all = BTreeSet::new();
    for pool in map.pools() {
        for slot in pool.slots() {
            for replica in &slot.replicas {
                all.insert((pool.tag().to_owned(), slot.number.get(), replica.address.clone()));
            }
        }
    }
    all
}

/// The replicas that run: pool, slot, address.
pub fn of_pods(objects: &Objects) -> BTreeSet<(String, u16, String)> {
    let mut all = BTreeSet::new();
    for pod in objects.pods().iter().filter(|pod| pod.component() == "replica") {
        let label = |key: &str| pod.labels[key].clone();
        let slot = label("seen/slot").parse().expect("a number");
        let (set, spec) = (name(pod.workload), &pod.workload["spec"]);
        let (service, space) = (&spec["serviceName"], &pod.workload["metadata"]["namespace"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let domain = format!("{}.{}.svc.cluster.local", text(service), text(space));
        let port = pod.port(&json!("link")).expect("a link");
        for number in 0..spec["replicas"].as_u64().expect("a number") {
            let address = format!("{set}-{number}.{domain}:{port}");
            all.insert((label("seen/pool"), slot, address));
        }
    }
    all
}

/// Whether each pod is scraped exactly once by what a monitor selects.
pub fn scraped_once(monitor: &Value, objects: &Objects) -> bool {
    let spec = &monitor["spec"];
    assert_eq!(list(&spec["endpoints"]).len(), 1);
    let port = &spec["endpoints"][0]["port"];
    let own: Vec<Labels> = objects
        .of_kind("Service")
        .filter(|service| selects(&spec["selector"], &labels(&service["metadata"]["labels"])))
        .filter(|service| list(&service["spec"]["ports"]).iter().any(|one| one["name"] == *port))
        .map(|service| labels(&service["spec"]["selector"]))
        .collect();
    let times = |pod: &Pod<'_>| own.iter().filter(|wanted| contains(&pod.labels, wanted)).count();
    objects.pods().iter().all(|pod| times(pod) == 1)
}
