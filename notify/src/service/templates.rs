//! The operator's folder of templates: one folder a language, with mails and sentences.
//!
//! ```text
//!   templates_dir/fr/digest.subject   digest.txt   digest.html   phrases.json
//! ```
//!
//! In the place of ours, or of a language that isn't ours: then all four have to be there.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::error::Error;
use crate::languages::Languages;
use crate::mail::{Part, Templates};
use crate::text::Language;

const PHRASES: &str = "phrases.json";

/// Languages of the folder, beside ours; none without one.
pub fn languages(folder: &str) -> Result<Languages, Error> {
    let mut given = BTreeMap::new();
    for (language, place) in places(folder)? {
        let path = place.join(PHRASES);
        if let Some(text) = read(&path)? {
            let sentences: BTreeMap<String, String> = serde_json::from_str(&text)
                .map_err(|source| Error::Json { path: path.display().to_string(), source })?;
            given.insert(language, sentences);
        } else if !Language::BUILT_IN.contains(&language) {
            // Says which are missing.
            given.insert(language, BTreeMap::new());
        }
    }
    Ok(Languages::with(given)?)
}

/// The built-in templates, with those of the folder in their places.
pub(crate) fn templates(folder: &str) -> Result<Templates, Error> {
    let mut replaced = BTreeMap::new();
    for (language, place) in places(folder)? {
        for part in Part::ALL {
            if let Some(text) = read(&place.join(part.file_name()))? {
                replaced.insert((language, part), text);
            }
        }
    }
    Ok(Templates::with(languages(folder)?, replaced)?)
}

/// Folders of languages: those with a language's name and one of the files.
fn places(folder: &str) -> Result<Vec<(Language, std::path::PathBuf)>, Error> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if folder.is_empty() || error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut places = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(language) = name.to_str().and_then(Language::named) else { continue };
        let mut files = Part::ALL.iter().map(|part| part.file_name()).chain([PHRASES.to_owned()]);
        if files.any(|file| entry.path().join(file).exists()) {
            places.push((language, entry.path()));
        }
    }
    Ok(places)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.display().to_string(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(error: &Error) -> String {
        super::super::error::chain(error)
    }

    #[test]
    fn a_folder_adds_a_language_and_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // What is no language is nobody's business.
        write("partials/digest.html", "{% nonsense");
        write("it/README", "to come");
        assert_eq!(languages(dir).unwrap().all().count(), 2);
        assert_eq!(languages("").unwrap().all().count(), 2);
        assert_eq!(languages(&format!("{dir}/nowhere")).unwrap().all().count(), 2);

        write("fr/digest.subject", "{{ total }} messages non lus");
        write("fr/digest.txt", "Bonjour {{ name }}");
        assert!(chain(&templates(dir).unwrap_err()).contains("WALTALKIE_MESSAGE is missing"));
        write("fr/phrases.json", "[]");
        let told = chain(&templates(dir).unwrap_err());
        assert!(told.contains("fr/phrases.json"), "{told}");
        let sentences: BTreeMap<&str, &str> = crate::text::Phrase::ALL.map(|phrase| (phrase.key(), "oui")).into();
        write("fr/phrases.json", &serde_json::to_string(&sentences).unwrap());
        let told = chain(&templates(dir).unwrap_err());
        assert!(told.contains("fr/digest.html") && told.contains("isn't built in"), "{told}");
        write("fr/digest.html", "<p>{{ brand }}</p>");
        templates(dir).unwrap();
    }
}
