//! Script in SVG. A search, not a parser: what is refused wrongly can be sent as PNG, what passes is a download all the
//! same (see [`crate::disposition`]).

use crate::error::Refusal;
use crate::sniff::contains;

/// Where script stands in markup: elements, and addresses that are code.
const SCRIPT: &[(&str, &str)] = &[
    ("<script", "a script element"),
    (":script", "a script element"),
    ("javascript:", "a javascript: address"),
    ("<foreignobject", "a page inside the picture"),
    (":foreignobject", "a page inside the picture"),
    ("<iframe", "a frame"),
    ("<embed", "an embedded object"),
    ("<object", "an embedded object"),
    ("<!entity", "an entity of its own"),
    ("data:text/html", "a page in an address"),
    ("<handler", "an event handler"),
];

/// Refuses an SVG that brings script or entities.
pub(crate) fn refuse_script(svg: &[u8]) -> Result<(), Refusal> {
    // UTF-16 is looked at as the letters it holds. Blanks and character references inside words hide them from a search.
    let letters: Vec<u8> =
        svg.iter().filter(|byte| **byte != 0 && !byte.is_ascii_control()).map(u8::to_ascii_lowercase).collect();
    let script = |detail: &str| Err(Refusal::Script { detail: detail.to_owned() });
    for (sign, detail) in SCRIPT {
        if contains(&letters, sign.as_bytes()) {
            return script(detail);
        }
    }
    if event_attribute(svg) {
        return script("an event handler");
    }
    if contains(&letters, b"&#") && contains(&letters, b"href") {
        return script("an address in character references");
    }
    Ok(())
}

/// An attribute whose name begins with `on`.
fn event_attribute(svg: &[u8]) -> bool {
    let letters: Vec<u8> = svg.iter().filter(|byte| **byte != 0).map(u8::to_ascii_lowercase).collect();
    letters.windows(3).enumerate().any(|(at, window)| {
        let begins = matches!(window[0], b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' | b'/' | b'"' | b'\'');
        begins && &window[1..] == b"on" && {
            let name = letters[at + 3..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let after = letters[at + 3 + name..].iter().find(|byte| !byte.is_ascii_whitespace());
            name > 2 && after == Some(&b'=')
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_found_in_its_disguises() {
        for svg in [
            "<svg><script>alert(1)</script></svg>",
            "<svg><SCRIPT href='x'/></svg>",
            "<svg xmlns:s='http://www.w3.org/2000/svg'><s:script/></svg>",
            "<svg onload='alert(1)'/>",
            "<svg><circle r='1'\nonClick = \"alert(1)\"/></svg>",
            "<svg><a href='javascript:alert(1)'/></svg>",
            "<svg><a href='java\tscript:alert(1)'/></svg>",
            "<svg><a href='&#106;avascript:alert(1)'/></svg>",
            "<svg><foreignObject><p/></foreignObject></svg>",
            "<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>",
        ] {
            assert!(refuse_script(svg.as_bytes()).is_err(), "{svg}");
        }
        let wide: Vec<u8> = "<svg onload='x'/>".bytes().flat_map(|byte| [byte, 0]).collect();
        assert!(refuse_script(&wide).is_err());
    }

    #[test]
    fn drawings_pass() {
        for svg in [
            "<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>",
            "<svg><text>turn it on = light</text><text>on</text></svg>",
            "<svg><g id='icon' only='x'/></svg>",
        ] {
            assert!(refuse_script(svg.as_bytes()).is_ok(), "{svg}");
        }
    }
}
