//! The worker as a process that takes orders to die or to stand still at a point of its work. For fault tests and for the
//! benches that check; no role of an installation runs it.
//!
//! An order is `point:passing:act`, such as `produced:3:kill`; orders come as arguments, and on standard input as `at ORDER`,
//! whose passings count from then on. On standard input it also hears `go`, which ends a standstill, `disarm`, which takes
//! back all orders that weren't carried out, and `end`. The end of the input is an `end` too: a victim doesn't outlive its
//! tormentor.
//!
//! Reports are JSON objects, one a line of standard output, each with the time in `at_ms`:
//!
//! | `report` | says |
//! |---|---|
//! | `started` | the process runs |
//! | `armed` | an order was heard |
//! | `disarmed` | no order is left |
//! | `reached` | `point`, `passing` and `act` of an order that is carried out now, before anything else happens |
//! | `went_on` | a standstill is over |
//! | `health` | `is_ready` and `problem`, at each change |
//! | `ended` | `error`, why the worker ended; null after `end` |

mod order;

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use runtime::health::Health;
use runtime::{Config, Shutdown, clock};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

use crate::failpoint::{Act, Failpoints, Point};
pub use order::{Deed, Order, OrderError};

/// How often health is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the worker under orders until it is told to end, or ends by itself.
pub async fn run(config: Config, orders: &[String]) -> ExitCode {
    let control = Arc::new(Control::default());
    for order in orders {
        if let Err(error) = control.arm(order) {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let role = health.role("cdc");
    say("started", json!({ "pid": std::process::id() }));
    listen(Arc::clone(&control), shutdown.clone());
    let hook = Arc::clone(&control);
    let failpoints = Failpoints::new(Arc::new(move |point| hook.pass(point)));
    let mut worker = tokio::spawn(crate::run_with(Arc::new(config), role, shutdown, failpoints));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut shown = None;
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut worker => break outcome,
            _ = looks.tick() => show(&health, &mut shown),
        }
    };
    let error = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.chain()),
        Err(error) => Some(error.to_string()),
    };
    say("ended", json!({ "error": error }));
    if error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The settings of a victim, as the variables that it reads its configuration from: just what the worker needs.
pub fn variables(config: &Config) -> Vec<(String, String)> {
    [
        ("DEVELOPMENT", config.development.to_string()),
        ("NAMES__PREFIX", config.names.prefix.clone()),
        ("POSTGRES__TRUTH_URL", config.postgres.truth_url.expose().to_owned()),
        ("KAFKA__BROKERS", config.kafka.brokers.clone()),
        ("KAFKA__PARTITIONS", config.kafka.partitions.to_string()),
        ("KAFKA__REPLICATION_FACTOR", config.kafka.replication_factor.to_string()),
        ("KAFKA__MIN_INSYNC_REPLICAS", config.kafka.min_insync_replicas.to_string()),
        ("KAFKA__SECURITY_PROTOCOL", config.kafka.security_protocol.clone()),
        ("KAFKA__SASL_MECHANISM", config.kafka.sasl_mechanism.clone()),
        ("KAFKA__SASL_USERNAME", config.kafka.sasl_username.clone()),
        ("KAFKA__SASL_PASSWORD", config.kafka.sasl_password.expose().to_owned()),
        ("KAFKA__CA_FILE", config.kafka.ca_file.clone()),
        ("REGISTRY__URL", config.registry.url.expose().to_owned()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (format!("WALTALKIE_{name}"), value))
    .collect()
}

/// Orders, and the gate at which a standing victim waits.
#[derive(Default)]
struct Control {
    armed: Mutex<Vec<(Order, u64)>>,
    /// How often it was told to go on beyond what was waited for.
    gos: Mutex<u64>,
    told: Condvar,
}

impl Control {
    fn arm(&self, order: &str) -> Result<(), OrderError> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).push((order.parse()?, 0));
        Ok(())
    }

    fn disarm(&self) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn pass(&self, point: Point) -> Act {
        if let Some(order) = self.due(point) {
            say("reached", json!({ "point": point.name(), "passing": order.passing, "act": order.deed.name() }));
            match order.deed {
                Deed::Kill => die(),
                Deed::Wait => self.stand(),
                Deed::Tell => {}
            }
        }
        Act::Continue
    }

    /// Counts the passing; the order that is to be carried out, if any, is taken away.
    fn due(&self, point: Point) -> Option<Order> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = None;
        for (place, (order, passed)) in armed.iter_mut().enumerate() {
            if order.point == point {
                *passed += 1;
                if *passed == order.passing {
                    due = Some(place);
                }
            }
        }
        due.map(|place| armed.remove(place).0)
    }

    /// Blocks until it is told to go on.
    fn stand(&self) {
        let mut gos = self.gos.lock().unwrap_or_else(PoisonError::into_inner);
        while *gos == 0 {
            gos = self.told.wait(gos).unwrap_or_else(PoisonError::into_inner);
        }
        *gos -= 1;
        drop(gos);
        say("went_on", json!({}));
    }

    fn go(&self) {
        *self.gos.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.told.notify_one();
    }
}

/// Hears orders on a thread of its own.
fn listen(control: Arc<Control>, shutdown: Shutdown) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("at", order)) => match control.arm(order) {
                    Ok(()) => say("armed", json!({ "order": order })),
                    Err(error) => eprintln!("error: {error}"),
                },
                _ if line == "go" => control.go(),
                _ if line == "disarm" => {
                    control.disarm();
                    say("disarmed", json!({}));
                }
                _ if line == "end" => break,
                _ => eprintln!("error: {line:?} is none of `at ORDER`, `disarm`, `go` and `end`"),
            }
        }
        shutdown.begin();
    });
}

/// SIGKILL to itself. The signal may meet another thread first: this one does nothing more.
fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

fn show(health: &Health, shown: &mut Option<(bool, Option<String>)>) {
    let now = health.statuses().pop().map(|status| (status.is_ready, status.problem));
    if now != *shown {
        if let Some((is_ready, problem)) = &now {
            say("health", json!({ "is_ready": is_ready, "problem": problem }));
        }
        *shown = now;
    }
}

fn say(report: &str, mut what: Value) {
    what["report"] = report.into();
    what["at_ms"] = clock::now_ms().into();
    // Whoever no longer listens needs no report.
    let _ = writeln!(std::io::stdout().lock(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_due_at_its_passing_once() {
        let control = Control::default();
        control.arm("row:2:tell").unwrap();
        control.arm("committed:1:tell").unwrap();
        assert_eq!(control.due(Point::Row), None);
        assert_eq!(control.due(Point::Row).map(|order| order.passing), Some(2));
        assert_eq!(control.due(Point::Row), None);
        assert_eq!(control.due(Point::Begun), None);
        assert_eq!(control.due(Point::Committed).map(|order| order.point), Some(Point::Committed));
    }

    #[test]
    fn a_go_that_comes_before_the_standstill_counts() {
        let control = Control::default();
        control.go();
        control.stand();
        assert_eq!(*control.gos.lock().unwrap(), 0);
    }
}
