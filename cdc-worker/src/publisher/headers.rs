//! `CloudEvents` attributes as Kafka headers, in binary content mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).

use schemas::{timestamp, trace};

use crate::record::Outgoing;

/// Makes the headers of one record after another.
pub struct HeaderMaker {
    source: String,
    /// The second that `time` is of: neighbours in the log mostly share it.
    second: Option<i64>,
    time: Vec<u8>,
}

impl HeaderMaker {
    /// For records of this `ce_source`.
    pub const fn new(source: String) -> Self {
        Self { source, second: None, time: Vec::new() }
    }

    /// The headers of a record.
    pub fn make<'a>(&'a mut self, record: &Outgoing<'a>) -> [(&'a str, &'a [u8]); 6] {
        self.tell(record.timestamp_ms);
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", record.id),
            ("ce_type", record.kind),
            ("ce_source", self.source.as_bytes()),
            ("ce_time", &self.time),
            ("content-type", b"application/avro"),
        ]
    }

    /// The headers of a record that is sampled, the trace last.
    pub fn make_traced<'a>(&'a mut self, record: &Outgoing<'a>, traceparent: &'a str) -> [(&'a str, &'a [u8]); 7] {
        let [one, two, three, four, five, six] = self.make(record);
        [one, two, three, four, five, six, (trace::HEADER, traceparent.as_bytes())]
    }

    fn tell(&mut self, epoch_ms: i64) {
        let second = epoch_ms.div_euclid(1_000);
        if self.second != Some(second) {
            self.time = timestamp::rfc3339(epoch_ms).into_bytes();
            // Times that no calendar holds are shown clamped, all alike.
            self.second = Some(second).filter(|_| self.time.len() == "2026-01-31T12:00:00.000Z".len());
        } else if let [.., hundreds, tens, ones, b'Z'] = self.time.as_mut_slice() {
            let ms = epoch_ms.rem_euclid(1_000) as u16;
            *hundreds = b'0' + (ms / 100) as u8;
            *tens = b'0' + (ms / 10 % 10) as u8;
            *ones = b'0' + (ms % 10) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_are_what_the_calendar_says(times in proptest::collection::vec(
            prop_oneof![any::<i64>(), 1_700_000_000_000..1_700_000_003_000_i64, -3_000..3_000_i64], 1..20,
        )) {
            let mut maker = HeaderMaker::new(String::new());
            for epoch_ms in times {
                maker.tell(epoch_ms);
                prop_assert_eq!(std::str::from_utf8(&maker.time).expect("a text"), timestamp::rfc3339(epoch_ms));
            }
        }
    }
}
