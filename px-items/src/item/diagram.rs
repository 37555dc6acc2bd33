//! The state machine as a picture, made from [`step`] itself.

use super::{Effect, Event, State, step};
use std::fmt::Write as _;

/// The life of an Item as a Mermaid state diagram.
///
/// Moves that lead from one state to another are all there; one that stays where it is only if
/// it reads, tells or plans something. A move's label is what happens, then what it asks for.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> created: linked / due at once\n");
    for from in State::ALL {
        for (to, effects, events) in moves(from) {
            let effects: Vec<_> = effects.iter().map(ToString::to_string).collect();
            let label = format!("{} / {}", events.join(" or "), effects.join(", "));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {from} --> {to}: {label}");
        }
    }
    text.push_str("    removed --> [*]\n");
    text
}

/// The moves from a state, those that lead to the same and ask for the same as one.
fn moves(from: State) -> Vec<(State, &'static [Effect], Vec<String>)> {
    let mut moves: Vec<(State, &'static [Effect], Vec<String>)> = Vec::new();
    for event in Event::ALL {
        let Ok((to, effects)) = step(from, event) else { continue };
        if to == from && effects.iter().all(|effect| says_nothing(*effect)) {
            continue;
        }
        let alike = moves.iter_mut().find(|(other, same, _)| (*other, *same) == (to, effects));
        match alike {
            Some((.., events)) => events.push(event.to_string()),
            None => moves.push((to, effects, vec![event.to_string()])),
        }
    }
    moves
}

/// Whether an effect of a move that stays where it is would only fill the picture.
fn says_nothing(effect: Effect) -> bool {
    matches!(effect, Effect::KeepLease | Effect::Rest)
}
