//! Tests of the health endpoints for operators.

use axum::Router;
use demo_bank::plaid::{Config, DemoPlaid, Parts};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

async fn status(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn readiness_reads_one_item_and_counts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plaid.sqlite");
    let mut config = Config::demo().unwrap();
    config.database = format!("sqlite:{}", file.display()).parse().unwrap();
    let parts = Parts::system(&config).unwrap();
    let router = DemoPlaid::open(config, parts).await.unwrap().ops_router();
    assert_eq!(status(&router, "/readyz").await, StatusCode::OK);
    let database = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let run = async |sql: &'static str| sqlx::query(sql).execute(&database).await.unwrap();
    // The metrics count pending webhooks. A frequent readiness probe must not.
    run("ALTER TABLE outbox RENAME TO elsewhere").await;
    assert_eq!(status(&router, "/readyz").await, StatusCode::OK);
    run("ALTER TABLE items RENAME TO gone").await;
    assert_eq!(status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&router, "/healthz").await, StatusCode::OK, "the process lives");
}
