//! The state machine as a diagram, made from [`step`] itself.

use super::{Effect, Event, State, step};
use std::fmt::Write as _;

/// Returns the state machine of an Item as a Mermaid state diagram.
///
/// Shows all transitions between states. A transition within one state is shown only if it reads,
/// notifies or schedules something. The label of a transition is its event, then its effects.
#[must_use]
pub fn diagram() -> String {
    let mut text =
        String::from("stateDiagram-v2\n    [*] --> created: linked / schedule at once\n");
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

/// Returns the transitions from a state. Those with the same target and effects are merged.
fn moves(from: State) -> Vec<(State, &'static [Effect], Vec<String>)> {
    let mut moves: Vec<(State, &'static [Effect], Vec<String>)> = Vec::new();
    for event in Event::ALL {
        let Ok((to, effects)) = step(from, event) else { continue };
        if to == from && effects.iter().all(|effect| is_omitted(*effect)) {
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

/// Returns whether an effect is omitted for transitions within one state.
fn is_omitted(effect: Effect) -> bool {
    matches!(effect, Effect::KeepLease | Effect::Unschedule)
}
