//! What is written about metrics and settings outside the code, held against it: rules, dashboard, page, runbook, the operators'
//! table, the Compose file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a histogram adds to its name.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
const PAGE: &str = "web/ops/src/model";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that begin with `waltalkie_`.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_')
        .filter(|word| word.starts_with("waltalkie_"))
        .collect()
}

/// The constants of every crate's `metrics.rs`, and of the notifier's, which is beside its service.
fn constants() -> BTreeSet<String> {
    let folders = fs::read_dir(repository()).expect("the repository");
    let places = ["src/metrics.rs", "src/service/metrics.rs"];
    let files = folders.filter_map(Result::ok).flat_map(|folder| places.map(|place| folder.path().join(place)));
    let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let quoted = |text: &str| -> Vec<String> {
        text.split('"').skip(1).step_by(2).filter(|text| text.starts_with("waltalkie_")).map(str::to_owned).collect()
    };
    texts.iter().flat_map(|text| quoted(text)).collect()
}

/// Ids of a page's headings, as links to them have it.
fn sections(markdown: &str) -> BTreeSet<String> {
    let slug = |title: &str| {
        let signs = title.to_lowercase().replace(' ', "-");
        signs.chars().filter(|sign| sign.is_alphanumeric() || *sign == '-').collect::<String>()
    };
    markdown.lines().filter_map(|line| line.strip_prefix("## ")).map(slug).collect()
}

#[test]
fn every_metric_that_is_read_somewhere_is_counted() {
    let constants = constants();
    assert!(constants.len() > 60, "{constants:?}");
    for path in [
        "docker/prometheus/alerts.yml",
        "docker/grafana/waltalkie.json",
        &format!("{PAGE}/names.ts"),
        "docs/runbook.md",
    ] {
        let text = read(path);
        let names = names_in(&text);
        assert!(names.len() > 10, "{path}: {names:?}");
        for name in names {
            let base = PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            // A beginning, of names that are found by it.
            let is_beginning = name.ends_with('_') && constants.iter().any(|constant| constant.starts_with(name));
            assert!(constants.contains(name) || constants.contains(base) || is_beginning, "{path}: {name}");
        }
    }
}

#[test]
fn every_metric_is_in_the_operators_table() {
    let text = read("docs/operators.md");
    let named = names_in(&text);
    for name in constants() {
        assert!(named.contains(name.as_str()), "{name}");
    }
}

#[test]
fn every_fault_and_every_alert_leads_to_a_section_of_the_runbook() {
    let sections = sections(&read("docs/runbook.md"));
    let rules = read("docker/prometheus/alerts.yml");
    let alerts = rules.matches("- alert: ").count();
    let mut led: Vec<&str> =
        rules.split("runbook: docs/runbook.md#").skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert!(alerts > 10 && led.len() == alerts, "{} of {alerts} alerts", led.len());
    let rules = fs::read_dir(repository().join(PAGE).join("faults")).expect("the page's rules");
    let rules = rules.map(|rule| fs::read_to_string(rule.expect("a rule").path()).expect("a rule"));
    let faults: String = rules.collect();
    led.extend(faults.split("runbook: '").skip(1).filter_map(|rest| rest.split('\'').next()));
    for section in &led {
        assert!(sections.contains(*section), "{section}");
    }
    for section in &sections {
        assert!(led.contains(&section.as_str()), "nothing leads to {section}");
    }
}

#[test]
fn every_section_of_the_runbook_says_what_what_for_whom_and_three_commands() {
    let text = read("docs/runbook.md");
    for section in text.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        for part in ["**Symptom.**", "**Effect on people.**"] {
            assert!(section.contains(part), "{title}: {part}");
        }
        let commands = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        assert_eq!(commands.lines().count(), 3, "{title}");
    }
}

/// The Compose file's `WALTALKIE_…` with what stands in `example.env`: its own value, a default, or a secret.
fn of_compose(text: &str) -> Vec<(String, String)> {
    let settings = text.lines().filter_map(|line| line.trim().strip_prefix("WALTALKIE_")?.split_once(": "));
    let filled = |value: &str| {
        let mut parts = value.trim_matches('"').split("${");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (variable, rest) = part.split_once('}').expect("a variable ends");
            let otherwise = variable.split_once(":-").map(|(_, otherwise)| otherwise);
            filled.push_str(otherwise.unwrap_or("0123456789abcdef0123456789abcdef"));
            filled.push_str(rest);
        }
        filled
    };
    settings.map(|(name, value)| (format!("WALTALKIE_{name}"), filled(value))).collect()
}

#[test]
fn the_compose_file_sets_what_there_is_and_the_roles_beside_find_theirs() {
    let compose = read("docker/compose.yaml");
    let mut settings = of_compose(&compose);
    assert!(settings.len() > 12, "{settings:?}");
    let config = runtime::config::load(None, settings.clone()).expect("its settings");
    assert!(!config.notify.is_on() && config.operators.enabled, "{config:?}");
    // With what `example.env` asks for, mail and push are on.
    for (name, value) in [("SMTP_HOST", "mail.example.com"), ("WEB_PUSH_KEY", "a key that is only looked for")] {
        let name = format!("WALTALKIE_NOTIFY__{name}");
        let setting = settings.iter_mut().find(|(known, _)| *known == name).expect("a setting");
        value.clone_into(&mut setting.1);
    }
    let config = runtime::config::load(None, settings).expect("its settings");
    assert!(config.notify.is_on() && config.notify.has_push());
    let example = read("docker/example.env");
    for part in compose.split("${WALTALKIE_").skip(1) {
        let name = part.split([':', '}']).next().unwrap_or_default();
        assert!(example.contains(&format!("\nWALTALKIE_{name}=")), "{name} isn't in example.env");
    }
}
