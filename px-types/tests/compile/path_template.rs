use px_types::Meta;

const MALFORMED: Meta = Meta::get("broken", "/users/{user_id/transactions");

fn main() {
    let _ = MALFORMED;
}
