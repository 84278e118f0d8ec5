//! What a victim is told to do, and where.

use std::fmt;
use std::str::FromStr;

use crate::failpoint::Point;

/// `point:passing:act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Where.
    pub point: Point,
    /// Which passing of the point since the order was heard, from 1.
    pub passing: u64,
    /// What to do there.
    pub deed: Deed,
}

/// What is done at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL to itself.
    Kill,
    /// Stand there until told to go on. The rest of the process runs, unless somebody stops it with SIGSTOP meanwhile.
    Wait,
    /// Only say so.
    Tell,
}

impl Deed {
    const ALL: [Self; 3] = [Self::Kill, Self::Wait, Self::Tell];

    /// Its name in an order.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Wait => "wait",
            Self::Tell => "tell",
        }
    }
}

/// Something that is no order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no order: write point:passing:act, where point is fencing, begun, row, message, produced, committed or \
     reported, passing is 1 or more, and act is kill, wait or tell"
)]
pub struct OrderError(String);

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let parts: Vec<&str> = text.split(':').collect();
        let found = match parts[..] {
            [point, passing, deed] => {
                let point = Point::ALL.into_iter().find(|known| known.name() == point);
                let passing = passing.parse().ok().filter(|&passing| passing > 0);
                let deed = Deed::ALL.into_iter().find(|known| known.name() == deed);
                point.zip(passing).zip(deed)
            }
            _ => None,
        };
        let ((point, passing), deed) = found.ok_or_else(|| OrderError(text.to_owned()))?;
        Ok(Self { point, passing, deed })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.point.name(), self.passing, self.deed.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for point in Point::ALL {
            for deed in Deed::ALL {
                let order = Order { point, passing: 3, deed };
                assert_eq!(order.to_string().parse(), Ok(order));
            }
        }
        for wrong in ["", "row", "row:1", "row:0:kill", "row:x:kill", "raw:1:kill", "row:1:sleep", "row:1:kill:now"] {
            assert_eq!(wrong.parse::<Order>(), Err(OrderError(wrong.into())));
        }
    }
}
