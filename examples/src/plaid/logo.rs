//! Logos of applications and banks, drawn from their color and icon.

use super::config::{Application, Icon, Institution};
use maud::{Markup, PreEscaped, html};

/// The color of a logo if none is configured.
const GREY: &str = "#4a5468";

const CHART: &str = r#"<path d="M21 43V29m11 14V20m11 23v-9" stroke="white" stroke-width="6" stroke-linecap="round" fill="none"/>"#;
const RECEIPT: &str = r#"<path d="M21 16h22v33l-5.5-4-5.5 4-5.5-4-5.5 4z" fill="white"/><path d="M26.5 25h11m-11 8h11" stroke="currentColor" stroke-width="3.4" stroke-linecap="round"/>"#;
const BANK: &str = r#"<path d="M32 15 15 25v3h34v-3z" fill="white"/><path d="M20.5 32v10m7.7-10v10m7.6-10v10m7.7-10v10M16.5 47h31" stroke="white" stroke-width="4" stroke-linecap="round" fill="none"/>"#;

/// Draws an application's logo as an SVG file.
pub(super) fn of_application(app: &Application) -> String {
    draw(&app.name, app.color.as_deref(), app.icon).into_string()
}

/// Draws a bank's logo as an SVG file.
pub(super) fn of_institution(bank: &Institution) -> String {
    draw(&bank.name, bank.color.as_deref(), Icon::Bank).into_string()
}

fn draw(name: &str, color: Option<&str>, icon: Icon) -> Markup {
    let color = color.unwrap_or(GREY);
    let letter: String = name.chars().next().into_iter().flat_map(char::to_uppercase).collect();
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64" color=(color) {
            rect width="64" height="64" rx="15" fill=(color) {}
            @match icon {
                Icon::Chart => (PreEscaped(CHART)),
                Icon::Receipt => (PreEscaped(RECEIPT)),
                Icon::Bank => (PreEscaped(BANK)),
                Icon::Letter => text x="32" y="43" text-anchor="middle" font-family="system-ui, sans-serif"
                    font-size="32" font-weight="700" fill="white" { (letter) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_markup() {
        let logo = draw("<script>", None, Icon::Letter).into_string();
        // SVG is XML: every element must be closed.
        assert!(logo.contains("</rect>") && logo.contains("</svg>"), "{logo}");
        assert!(logo.contains("&lt;</text>") && !logo.contains("<script"), "{logo}");
    }
}
