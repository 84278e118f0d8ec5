//! Who is named in a text: `@name`, `@user_id`, `@all`.

/// Places in one text. Each is held against every member's name: a text of nothing else would keep the decider for long.
const MOST: usize = 100;

/// Places of a text at which somebody may be named. Found once a message, asked once a person.
#[derive(Debug, Clone, Default)]
pub struct Mentions<'a> {
    /// What follows each `@`.
    tails: Vec<&'a str>,
    names_all: bool,
}

impl<'a> Mentions<'a> {
    /// Looks through a text, up to its first hundred places. An `@` within a word, as in a mail address, names nobody.
    pub fn of(text: &'a str) -> Self {
        let mut tails = Vec::new();
        let mut before = None;
        for (at, character) in text.char_indices() {
            if character == '@' && !before.is_some_and(is_of_a_word) {
                tails.push(&text[at + 1..]);
                if tails.len() == MOST {
                    break;
                }
            }
            before = Some(character);
        }
        let names_all = tails.iter().any(|tail| begins_with(tail, "all"));
        Self { tails, names_all }
    }

    /// Whether `@all` is in it. Whose `@all` counts is decided elsewhere.
    pub fn names_all(&self) -> bool {
        self.names_all
    }

    /// Whether a person is named, by id or by display name, in any case. A name of several words is named whole.
    pub fn name(&self, user_id: &str, display_name: Option<&str>) -> bool {
        let display_name = display_name.map(str::trim).filter(|name| !name.is_empty());
        self.tails.iter().any(|tail| {
            begins_with(tail, user_id) || display_name.is_some_and(|display_name| begins_with(tail, display_name))
        })
    }
}

/// Whether a text begins with a name and the name ends there: a dot or hyphen ends it only if no word goes on after.
fn begins_with(text: &str, name: &str) -> bool {
    let mut rest = text.chars();
    for wanted in name.chars() {
        let Some(found) = rest.next() else { return false };
        if wanted != found && !wanted.to_lowercase().eq(found.to_lowercase()) {
            return false;
        }
    }
    match rest.next() {
        Some(next) if is_of_a_word(next) => false,
        // Ids hold these; a sentence ends with them.
        Some('.' | '-' | ':') => !rest.next().is_some_and(is_of_a_word),
        _ => true,
    }
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_found_whole() {
        for (text, is_named) in [
            ("@Ann", true),
            ("hi @ann, there", true),
            ("(@ANN)", true),
            ("see @Ann.", true),
            ("@Ann: look", true),
            ("@Anna", false),
            ("@Ann_x", false),
            ("@Ann.b", false),
            ("@Ann-Marie", false),
            ("ann@Ann.example", false),
            ("mail x@Ann", false),
            ("Ann", false),
            ("@ Ann", false),
            ("@u-1", true),
            ("@u-1.", true),
            ("@u-12", false),
            ("@@Ann", true),
        ] {
            assert_eq!(Mentions::of(text).name("u-1", Some("Ann")), is_named, "{text}");
        }
    }

    #[test]
    fn names_of_several_words_and_of_other_scripts() {
        let text = Mentions::of("@Jörg Müller und @李雷 bitte");
        assert!(text.name("u1", Some("jörg müller")));
        assert!(text.name("u2", Some("李雷")));
        assert!(!text.name("u3", Some("Jörg Mül")));
        assert!(!text.name("u4", None) && !text.name("u4", Some("  ")));
    }

    #[test]
    fn all_is_a_name_of_its_own() {
        assert!(Mentions::of("@all: lunch").names_all());
        assert!(Mentions::of("@All").names_all());
        assert!(!Mentions::of("@allison").names_all());
        assert!(!Mentions::of("all").names_all());
    }

    #[test]
    fn a_text_full_of_signs_is_not_looked_through_for_everybody() {
        let text = "@".repeat(16_384) + "Ann";
        let mentions = Mentions::of(&text);
        assert_eq!(mentions.tails.len(), MOST);
        assert!(!mentions.name("u-1", Some("Ann")));
        assert!(Mentions::of(&("@x ".repeat(MOST - 1) + "@Ann")).name("u-1", Some("Ann")));
    }

    proptest! {
        #[test]
        fn any_text_and_name_can_be_asked(text in "\\PC{0,80}", name in "\\PC{0,20}") {
            let _ = Mentions::of(&text).name(&name, Some(&name));
        }

        #[test]
        fn a_name_between_spaces_is_found(name in "[A-Za-z][A-Za-z0-9._-]{0,20}[A-Za-z0-9]", before in "[a-z ]{0,20}") {
            let text = format!("{before} @{name} and more");
            prop_assert!(Mentions::of(&text).name(&name, None));
        }
    }
}
