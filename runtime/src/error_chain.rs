//! An error as one line.

use std::error::Error;

use tokio_postgres::error::DbError;

/// An error with its causes, on one line. A cause that an error's own text has already isn't said twice. Of what Postgres
/// says, its DETAIL is left out: that shows the row, and with it somebody's words.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = said(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = said(error);
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

fn said(error: &(dyn Error + 'static)) -> String {
    let Some(error) = error.downcast_ref::<DbError>() else { return error.to_string() };
    let mut text = format!("{}: {}", error.severity(), error.message());
    for (what, name) in [("table", error.table()), ("column", error.column()), ("constraint", error.constraint())] {
        if let Some(name) = name.filter(|name| !text.contains(*name)) {
            text.extend([" (", what, " ", name, ")"]);
        }
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
