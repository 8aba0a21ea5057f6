//! (to come)
pub fn serve(_config: &std::path::Path) -> Result<(), String> {
    Err("(to come)".into())
}
