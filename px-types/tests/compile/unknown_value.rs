use px_types::model::account::AccountStatus;

fn main() {
    match AccountStatus::from("asleep") {
        AccountStatus::Active => {}
        AccountStatus::Inactive => {}
        AccountStatus::PendingOpen => {}
        AccountStatus::PendingClose => {}
        AccountStatus::Closed => {}
        AccountStatus::Restricted => {}
    }
}
