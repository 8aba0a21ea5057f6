//! (to come)
pub fn run() -> Result<(), String> {
    Err("(to come)".into())
}
