//! The table of results: comparison, measurement, ratio, aim and result.

/// The table of results.
#[derive(Debug)]
pub(crate) struct Report {
    only: Option<String>,
    lines: Vec<[String; 5]>,
}

impl Report {
    pub(crate) fn new(only: Option<String>) -> Self {
        Self { only, lines: Vec::new() }
    }

    /// Returns whether a line is selected.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let is_selected = self.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        if is_selected {
            eprintln!("… {name}");
        }
        is_selected
    }

    /// Adds a ratio that should be large.
    pub(crate) fn at_least(&mut self, name: &str, measured: String, ratio: f64, aim: f64) {
        self.line(name, measured, ratio, format!("≥ {aim}"), ratio >= aim);
    }

    /// Adds a ratio that should be small.
    pub(crate) fn at_most(&mut self, name: &str, measured: String, ratio: f64, aim: f64) {
        self.line(name, measured, ratio, format!("≤ {aim}"), ratio <= aim);
    }

    fn line(&mut self, name: &str, measured: String, ratio: f64, aim: String, met: bool) {
        let result = if met { "met" } else { "MISSED" };
        self.lines.push([name.to_owned(), measured, format!("{ratio:.2}"), aim, result.to_owned()]);
    }

    /// Adds a measurement that is not a ratio.
    pub(crate) fn value(&mut self, name: &str, measured: String, aim: &str, met: bool) {
        let result = if met { "met" } else { "MISSED" };
        self.lines.push([
            name.to_owned(),
            measured,
            String::new(),
            aim.to_owned(),
            result.to_owned(),
        ]);
    }

    /// Adds a line that could not be measured.
    pub(crate) fn not_run(&mut self, name: &str, why: &str) {
        self.lines.push([
            name.to_owned(),
            why.to_owned(),
            String::new(),
            String::new(),
            "not run".to_owned(),
        ]);
    }

    pub(crate) fn print(&self) {
        let head = ["what", "measured", "ratio", "aim", "result"].map(str::to_owned);
        let width = |column: usize| {
            let cells = self.lines.iter().chain([&head]);
            cells.map(|l| l[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        println!();
        println!("\"/s\": requests per second of the server's processor time, all on one core.");
        println!();
        for (index, line) in [&head].into_iter().chain(&self.lines).enumerate() {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                println!("|-{}-|", rule.join("-|-"));
            }
        }
    }
}

/// Returns the median of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
