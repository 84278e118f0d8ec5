//! Whether a standby would keep the slot: what a promotion needs of the primary's settings, as far as the primary shows
//! it. The standby's own settings can't be read from here; what they do to the primary can.

use runtime::Names;
use tokio_postgres::{Client, Row};

use crate::MigrateError;

/// How the primary and its standbys look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailoverFacts {
    /// The server's version, such as 180001.
    pub version: i32,
    /// The logical slot's name.
    pub slot: String,
    /// Whether the slot is kept on standbys; `None` if there is no slot, or no such thing.
    pub is_failover_slot: Option<bool>,
    /// `synchronous_standby_names`.
    pub synchronous: String,
    /// `synchronized_standby_slots`, split.
    pub waited_for: Vec<String>,
    /// Standbys that stream now.
    pub standbys: Vec<Standby>,
    /// Physical slots, and whether they are read now.
    pub physical_slots: Vec<(String, bool)>,
    /// Connections of standbys that copy slots.
    pub slot_syncs: i64,
}

/// A standby that streams now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standby {
    /// `application_name`.
    pub name: String,
    /// Its physical slot.
    pub slot: Option<String>,
    /// Whether it says which rows it still reads (`hot_standby_feedback`).
    pub gives_feedback: bool,
}

/// What was found: what is as it should be, and what is not with the way to mend it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Worth knowing.
    pub seen: Vec<String>,
    /// To be mended.
    pub wrong: Vec<String>,
}

impl FailoverFacts {
    /// Asks the primary. `names` say which slot.
    pub async fn ask(client: &Client, names: &Names) -> Result<Self, MigrateError> {
        let statement = |source| MigrateError::Statement { what: "reading the state of standbys".into(), source };
        let slot = names.slot();
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('synchronous_standby_names'),
                        coalesce(current_setting('synchronized_standby_slots', true), ''),
                        (SELECT (to_jsonb(s) ->> 'failover')::bool FROM pg_replication_slots s WHERE slot_name = $1),
                        (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%slotsync worker')",
                &[&slot],
            )
            .await
            .map_err(statement)?;
        let waited_for: String = row.get(2);
        // Not those that stream a logical slot, nor a base backup or a connection that hasn't begun.
        let standbys = client
            .query(
                "SELECT r.application_name, s.slot_name::text,
                        coalesce(s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL, r.backend_xmin IS NOT NULL)
                   FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
                  WHERE s.slot_type IS DISTINCT FROM 'logical'
                    AND (s.slot_type = 'physical' OR r.state IN ('streaming', 'catchup')) ORDER BY 1, 2",
                &[],
            )
            .await
            .map_err(statement)?;
        let physical = client
            .query(
                "SELECT slot_name::text, active FROM pg_replication_slots WHERE slot_type = 'physical' ORDER BY 1",
                &[],
            )
            .await
            .map_err(statement)?;
        Ok(Self {
            version: row.get(0),
            slot,
            is_failover_slot: row.get(3),
            synchronous: row.get(1),
            waited_for: waited_for
                .split(',')
                .map(|name| name.trim().trim_matches('"').to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            standbys: standbys.iter().map(standby).collect(),
            physical_slots: physical.iter().map(|row| (row.get(0), row.get(1))).collect(),
            slot_syncs: row.get(4),
        })
    }

    /// Whether a promotion would go on without loss.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        if self.version < 170_000 {
            if self.has_standbys() {
                verdict.seen.push(format!(
                    "PostgreSQL {} keeps slot {} on no standby: after a promotion the worker refuses to start; 17 or later \
                     goes on",
                    self.version / 10_000,
                    self.slot
                ));
            }
            return verdict;
        }
        if self.is_failover_slot == Some(false) {
            verdict.wrong.push(format!(
                "slot {0} isn't a failover slot, so no standby keeps it: stop the CDC workers and run \
                 ALTER_REPLICATION_SLOT \"{0}\" (FAILOVER true) on a connection with replication=database",
                self.slot
            ));
        }
        self.waits(&mut verdict);
        if self.has_standbys() {
            self.standbys(&mut verdict);
        }
        verdict
    }

    fn has_standbys(&self) -> bool {
        !self.standbys.is_empty() || !self.synchronous.is_empty()
    }

    /// Standbys that the slot waits for must be there: nothing is published else.
    fn waits(&self, verdict: &mut Verdict) {
        for name in &self.waited_for {
            let is_read = self.physical_slots.iter().find(|(slot, _)| slot == name).map(|(_, is_read)| *is_read);
            let state = match is_read {
                Some(true) => continue,
                Some(false) => "is read by no standby now",
                None => "doesn't exist",
            };
            verdict.wrong.push(format!(
                "synchronized_standby_slots names {name}, which {state}: nothing is published until it is back. Bring the \
                 standby back, or take the name out (ALTER SYSTEM SET synchronized_standby_slots, then \
                 SELECT pg_reload_conf())"
            ));
        }
    }

    fn standbys(&self, verdict: &mut Verdict) {
        if self.standbys.is_empty() {
            verdict.wrong.push(format!(
                "synchronous_standby_names is `{}`, but no standby is connected: commits wait for one",
                self.synchronous
            ));
            return;
        }
        for standby in &self.standbys {
            let name = &standby.name;
            match &standby.slot {
                None => verdict.wrong.push(format!(
                    "standby {name} streams without a physical slot: make one with pg_create_physical_replication_slot, set \
                     primary_slot_name on the standby and name it in synchronized_standby_slots here"
                )),
                Some(slot) if !self.waited_for.contains(slot) => verdict.wrong.push(format!(
                    "synchronized_standby_slots doesn't name {slot}, the slot of standby {name}: what is published may be \
                     missing on it, and a promotion then ends publishing. ALTER SYSTEM SET synchronized_standby_slots = \
                     '{slot}' (all standbys that may be promoted, with commas), then SELECT pg_reload_conf()"
                )),
                Some(_) => {}
            }
            if !standby.gives_feedback {
                verdict.wrong.push(format!(
                    "standby {name} gives no feedback of the rows that it reads: set hot_standby_feedback = on there, or it \
                     can't keep the slot"
                ));
            }
        }
        if self.slot_syncs == 0 {
            verdict.wrong.push(format!(
                "no standby copies slots from here: on each, set sync_replication_slots = on and a dbname in \
                 primary_conninfo; SELECT synced, temporary, invalidation_reason FROM pg_replication_slots WHERE slot_name = \
                 '{}' there must then say t, f and nothing",
                self.slot
            ));
        }
        if verdict.wrong.is_empty() {
            verdict.seen.push(format!(
                "{} standby(s) would keep slot {}; each shows it by SELECT synced, temporary FROM pg_replication_slots",
                self.standbys.len(),
                self.slot
            ));
        }
    }
}

fn standby(row: &Row) -> Standby {
    Standby {
        name: row.get::<_, Option<String>>(0).unwrap_or_default(),
        slot: row.get(1),
        gives_feedback: row.get::<_, Option<bool>>(2).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> FailoverFacts {
        FailoverFacts {
            version: 180_001,
            slot: "cdc".into(),
            is_failover_slot: Some(true),
            synchronous: "one".into(),
            waited_for: vec!["one_slot".into()],
            standbys: vec![Standby { name: "one".into(), slot: Some("one_slot".into()), gives_feedback: true }],
            physical_slots: vec![("one_slot".into(), true)],
            slot_syncs: 1,
        }
    }

    #[test]
    fn a_lone_server_and_a_good_pair_are_well() {
        let lone = FailoverFacts { version: 180_001, is_failover_slot: Some(true), ..FailoverFacts::default() };
        assert_eq!(lone.verdict(), Verdict::default());
        let verdict = well().verdict();
        assert_eq!((verdict.wrong.len(), verdict.seen.len()), (0, 1), "{verdict:?}");
    }

    #[test]
    fn an_older_server_says_what_it_can_not_do() {
        let verdict = FailoverFacts { version: 160_011, is_failover_slot: None, ..well() }.verdict();
        assert!(verdict.wrong.is_empty() && verdict.seen[0].contains("PostgreSQL 16 keeps slot cdc on no standby"));
    }

    #[test]
    fn each_setting_that_is_missing_is_named_with_the_way_to_mend_it() {
        let without = |standby: Standby| FailoverFacts { standbys: vec![standby], ..well() };
        let cases = [
            (
                FailoverFacts { is_failover_slot: Some(false), ..well() },
                "ALTER_REPLICATION_SLOT \"cdc\" (FAILOVER true)",
            ),
            (FailoverFacts { waited_for: Vec::new(), ..well() }, "synchronized_standby_slots = 'one_slot'"),
            (FailoverFacts { physical_slots: Vec::new(), ..well() }, "one_slot, which doesn't exist"),
            (FailoverFacts { physical_slots: vec![("one_slot".into(), false)], ..well() }, "read by no standby now"),
            (FailoverFacts { standbys: Vec::new(), ..well() }, "no standby is connected"),
            (FailoverFacts { slot_syncs: 0, ..well() }, "sync_replication_slots = on"),
            (without(Standby { slot: None, ..well().standbys[0].clone() }), "primary_slot_name"),
            (without(Standby { gives_feedback: false, ..well().standbys[0].clone() }), "hot_standby_feedback = on"),
        ];
        for (facts, expected) in cases {
            let wrong = facts.verdict().wrong;
            assert!(wrong.len() == 1 && wrong[0].contains(expected), "{expected}: {wrong:?}");
        }
    }
}
