//! An error as one line.

use std::error::Error;

/// An error with its causes, on one line. A cause that an error's own text has already isn't said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn causes_follow_and_none_is_repeated() {
        let error =
            Link("no batch: socket closed", Some(Box::new(Link("socket closed", Some(Box::new(Link("reset", None)))))));
        assert_eq!(chain(&error), "no batch: socket closed: reset");
    }
}
