//! main
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    if std::env::args().nth(1).as_deref() == Some("demo") {
        backstop::demo::run(&mut std::io::stdout()).unwrap();
    } else {
        backstop::server::serve(std::path::Path::new(&std::env::args().nth(3).unwrap()))
            .unwrap_or_else(|e| println!("{e}"));
    }
}
