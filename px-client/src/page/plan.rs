//! The split of a long window into shorter ones. Pure.

use super::Window;

/// Splits a window into about `parts` parts, newest first, none longer than `longest` days.
///
/// The parts are adjacent, do not overlap and cover the window. A day is never split.
pub(super) fn cut(window: Window, parts: u64, longest: Option<u64>) -> Vec<Window> {
    let days = window.days();
    let length = days.div_ceil(parts.clamp(1, days));
    let length = length.min(longest.unwrap_or(u64::MAX)).max(1);
    let mut cuts = Vec::new();
    let mut end = window.end();
    loop {
        let start = end.minus_days(length - 1).max(window.start());
        cuts.extend(Window::new(start, end));
        if start <= window.start() {
            return cuts;
        }
        end = start.minus_days(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use px_types::Date;

    proptest! {
        #[test]
        fn the_parts_cover_the_window_once(
            days in 1_u64..1500, parts in 0_u64..2000, longest in proptest::option::of(0_u64..400)
        ) {
            let start = Date::from_ymd(2023, 2, 27).unwrap();
            let window = Window::new(start, start.plus_days(days - 1)).unwrap();
            let cuts = cut(window, parts, longest);
            prop_assert_eq!(cuts.iter().map(Window::days).sum::<u64>(), days);
            prop_assert_eq!(cuts[0].end(), window.end());
            prop_assert_eq!(cuts[cuts.len() - 1].start(), window.start());
            for pair in cuts.windows(2) {
                prop_assert_eq!(pair[1].end().plus_days(1), pair[0].start());
            }
            if let Some(longest) = longest {
                prop_assert!(cuts.iter().all(|cut| cut.days() <= longest.max(1)));
            }
        }
    }

    #[test]
    fn the_first_dates_of_the_calendar_end_it() {
        let start = Date::from_ymd(0, 1, 1).unwrap();
        let window = Window::new(start, start.plus_days(2)).unwrap();
        assert_eq!(cut(window, 3, None).len(), 3);
    }
}
