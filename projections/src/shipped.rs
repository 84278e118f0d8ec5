//! The projections that there are, by name, and what can be done with each of them.

use runtime::{Config, Shutdown};
use schemas::{ChatEvent, Cursor, Mark, Record};
use tokio::task::JoinSet;

use crate::error::{self, Error};
use crate::projection::{Input, Projection};
use crate::rebuild::{Rebuilder, Rebuilt, Replay, Verdict};
use crate::renewal;
use crate::runner;
use crate::status::Board;
use crate::wiring::Wiring;
use crate::{
    ChatActivity, ChatHead, CursorProjection, CursorReplay, CursorWriter, Inbox, MembershipProjection, Timeline,
    UserExport,
};

/// One of the projections that come with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the projections' names")]
pub enum Shipped {
    Membership,
    ChatHead,
    Cursor,
    Inbox,
    Timeline,
    ChatActivity,
    UserExport,
}

impl Shipped {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Membership,
        Self::ChatHead,
        Self::Cursor,
        Self::Inbox,
        Self::Timeline,
        Self::ChatActivity,
        Self::UserExport,
    ];
    /// Those that the gateway lives from.
    const ALWAYS: [Self; 4] = [Self::Membership, Self::ChatHead, Self::Cursor, Self::Inbox];

    /// Its name, as commands and tables have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Membership => MembershipProjection::NAME,
            Self::ChatHead => ChatHead::NAME,
            Self::Cursor => CursorReplay::NAME,
            Self::Inbox => <Inbox as Projection>::NAME,
            Self::Timeline => Timeline::NAME,
            Self::ChatActivity => ChatActivity::NAME,
            Self::UserExport => UserExport::NAME,
        }
    }

    /// The version of its rows that this program makes.
    pub const fn version(self) -> u32 {
        match self {
            Self::Membership => MembershipProjection::VERSION,
            Self::ChatHead => ChatHead::VERSION,
            Self::Cursor => CursorReplay::VERSION,
            Self::Inbox => <Inbox as Projection>::VERSION,
            Self::Timeline => Timeline::VERSION,
            Self::ChatActivity => ChatActivity::VERSION,
            Self::UserExport => UserExport::VERSION,
        }
    }

    /// The tables that it owns.
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Membership => MembershipProjection::TABLES,
            Self::ChatHead => ChatHead::TABLES,
            Self::Cursor => CursorReplay::TABLES,
            Self::Inbox => <Inbox as Projection>::TABLES,
            Self::Timeline => Timeline::TABLES,
            Self::ChatActivity => ChatActivity::TABLES,
            Self::UserExport => UserExport::TABLES,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|shipped| shipped.name() == name).ok_or_else(|| Error::UnknownProjection {
            name: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// Those that an installation keeps up to date.
    pub fn kept(config: &Config) -> Result<Vec<Self>, Error> {
        let mut kept = Self::ALWAYS.to_vec();
        for name in &config.projector.also {
            let shipped = Self::named(name)?;
            if !kept.contains(&shipped) {
                kept.push(shipped);
            }
        }
        Ok(kept)
    }

    /// Makes its tables again and swaps them in.
    pub async fn rebuild(self, rebuilder: &Rebuilder) -> Result<Rebuilt, Error> {
        self.with(rebuilder, Rebuilding).await
    }

    /// Builds the state as of a time in a schema of its own, which stays.
    pub async fn rebuild_as_of(self, rebuilder: &Rebuilder, until_ms: i64) -> Result<Rebuilt, Error> {
        self.with(rebuilder, RebuildingAsOf { until_ms }).await
    }

    /// Compares its tables with the history.
    pub async fn verify(self, rebuilder: &Rebuilder) -> Result<Verdict, Error> {
        self.with(rebuilder, Verifying).await
    }

    async fn with<W: Work>(self, rebuilder: &Rebuilder, work: W) -> Result<W::Outcome, Error> {
        match self {
            Self::Membership => Box::pin(work.on(rebuilder, MembershipProjection)).await,
            Self::ChatHead => Box::pin(work.on(rebuilder, ChatHead)).await,
            Self::Cursor => Box::pin(work.on(rebuilder, CursorReplay)).await,
            Self::Inbox => Box::pin(work.on(rebuilder, Inbox::of(rebuilder.config()))).await,
            Self::Timeline => Box::pin(work.on(rebuilder, Timeline)).await,
            Self::ChatActivity => Box::pin(work.on(rebuilder, ChatActivity)).await,
            Self::UserExport => Box::pin(work.on(rebuilder, UserExport)).await,
        }
    }

    /// Starts its loops, one an input.
    pub(crate) fn start(self, loops: &mut Loops<'_>) {
        match self {
            Self::Membership => loops.start::<_, ChatEvent>(self, MembershipProjection),
            Self::ChatHead => loops.start::<_, ChatEvent>(self, ChatHead),
            Self::Cursor => loops.start::<_, Mark>(self, CursorProjection::new(CursorWriter::new(loops.wiring))),
            Self::Inbox => {
                let inbox = Inbox::of(&loops.wiring.config);
                loops.start::<_, ChatEvent>(self, inbox);
                loops.start::<_, Cursor>(self, inbox);
            }
            Self::Timeline => loops.start::<_, ChatEvent>(self, Timeline),
            Self::ChatActivity => loops.start::<_, ChatEvent>(self, ChatActivity),
            Self::UserExport => loops.start::<_, ChatEvent>(self, UserExport),
        }
    }
}

/// Something that is done with any projection.
trait Work {
    type Outcome;

    fn on<P: Replay>(
        self,
        rebuilder: &Rebuilder,
        projection: P,
    ) -> impl Future<Output = Result<Self::Outcome, Error>> + Send;
}

struct Rebuilding;

impl Work for Rebuilding {
    type Outcome = Rebuilt;

    async fn on<P: Replay>(self, rebuilder: &Rebuilder, projection: P) -> Result<Rebuilt, Error> {
        rebuilder.rebuild(projection).await
    }
}

struct RebuildingAsOf {
    until_ms: i64,
}

impl Work for RebuildingAsOf {
    type Outcome = Rebuilt;

    async fn on<P: Replay>(self, rebuilder: &Rebuilder, projection: P) -> Result<Rebuilt, Error> {
        rebuilder.rebuild_as_of(projection, self.until_ms).await
    }
}

struct Verifying;

impl Work for Verifying {
    type Outcome = Verdict;

    async fn on<P: Replay>(self, rebuilder: &Rebuilder, projection: P) -> Result<Verdict, Error> {
        rebuilder.verify(projection).await
    }
}

/// The role's loops.
pub(crate) struct Loops<'a> {
    pub(crate) running: JoinSet<Result<(), Error>>,
    pub(crate) wiring: &'a Wiring,
    pub(crate) board: &'a Board,
    pub(crate) shutdown: &'a Shutdown,
}

impl Loops<'_> {
    /// Starts the loop of one input; it lives as long as the set.
    fn start<P: Input<R>, R: Record>(&mut self, shipped: Shipped, projection: P) {
        let (wiring, status, shutdown) = (self.wiring.clone(), self.board.entry(P::LOOP), self.shutdown.clone());
        self.running.spawn(async move {
            let _guard = status.guard();
            let outcome = loop {
                let outcome = Box::pin(runner::run(&projection, &wiring, &status, &shutdown)).await;
                let wanted = outcome.as_ref().err().and_then(|failure| renewal::wanted(&wiring.config, failure));
                let Some(wanted) = wanted else { break outcome };
                match Box::pin(renewal::renew(shipped, wanted, &wiring, &status, &shutdown)).await {
                    Ok(()) if shutdown.has_begun() => break Ok(()),
                    Ok(()) => {}
                    Err(failure) => break Err(failure),
                }
            };
            if let Err(error) = &outcome {
                tracing::error!(projection = P::NAME, error = %error::chain(error), "a projection has stopped");
                status.stopped(&error::chain(error));
            } else {
                status.ended();
            }
            outcome
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_named_once_and_known() {
        let mut config = Config::default();
        config.projector.also = vec!["timeline".into(), "inbox".into(), "timeline".into()];
        let names = |config: &Config| Shipped::kept(config).map(|kept| kept.into_iter().map(Shipped::name).collect());
        let kept: Vec<&str> = names(&config).unwrap();
        assert_eq!(kept, ["membership", "chat_head", "cursor", "inbox", "timeline"]);
        config.projector.also.push("time_line".into());
        let refusal: Result<Vec<&str>, Error> = names(&config);
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains("time_line") && text.contains("chat_activity"), "{text}");
    }
}
