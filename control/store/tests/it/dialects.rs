//! Both dialects of the schema define the same.

use std::collections::BTreeSet;

use imp_store::testing::Kind;
use sqlx::{PgPool, SqlitePool};

use crate::shop::store;

/// `table.column`, with `?` if it is nullable; and the names of indexes.
type Names = BTreeSet<String>;

async fn sqlite() -> Names {
    let (database, _store) = store(Kind::Sqlite).await;
    let pool = SqlitePool::connect(database.url()).await.unwrap();
    let columns = "SELECT m.name || '.' || c.name || CASE c.\"notnull\" WHEN 1 THEN '' ELSE '?' END \
        FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' \
        AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' AND m.name NOT LIKE '!_sqlx%' ESCAPE '!'";
    let indexes =
        "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'ix!_%' ESCAPE '!'";
    let mut names: Vec<String> = sqlx::query_scalar(columns).fetch_all(&pool).await.unwrap();
    names.extend(sqlx::query_scalar::<_, String>(indexes).fetch_all(&pool).await.unwrap());
    names.into_iter().collect()
}

async fn postgres() -> Names {
    let (database, _store) = store(Kind::Postgres).await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let columns = "SELECT table_name || '.' || column_name || \
        CASE is_nullable WHEN 'NO' THEN '' ELSE '?' END FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name NOT LIKE '!_sqlx%' ESCAPE '!'";
    let indexes = "SELECT indexname::text FROM pg_indexes \
        WHERE schemaname = 'public' AND indexname LIKE 'ix!_%' ESCAPE '!'";
    let mut names: Vec<String> = sqlx::query_scalar(columns).fetch_all(&pool).await.unwrap();
    names.extend(sqlx::query_scalar::<_, String>(indexes).fetch_all(&pool).await.unwrap());
    names.into_iter().collect()
}

#[tokio::test]
async fn both_have_the_same_columns_and_indexes() {
    let (sqlite, mut postgres) = (sqlite().await, postgres().await);
    // Numbers can be missing only where writers do not queue.
    assert!(postgres.remove("outbox.xact"));
    let only = |a: &Names, b: &Names| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!((only(&sqlite, &postgres), only(&postgres, &sqlite)), (vec![], vec![]));
    assert!(sqlite.len() > 150, "{}", sqlite.len());
}

/// The field at fault is derived from the constraint's name.
#[tokio::test]
async fn every_constraint_is_named_after_its_table() {
    let (database, _store) = store(Kind::Postgres).await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    // NOT NULL constraints are rows of their own since PostgreSQL 18.
    let sql = "SELECT r.relname::text, c.conname::text FROM pg_constraint c \
        JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
        WHERE n.nspname = 'public' AND c.contype <> 'n' AND r.relname NOT LIKE '!_sqlx%' ESCAPE '!'";
    let all: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
    assert!(all.len() > 60, "{}", all.len());
    for (table, name) in all {
        let kinds = ["uq", "fk", "ck", "key"];
        let named = kinds.iter().any(|kind| name.starts_with(&format!("{kind}_{table}__")));
        assert!(named || name == format!("{table}_pkey"), "{table}: {name}");
    }
}

/// The database refuses references to another tenant, whatever the code above it misses.
#[tokio::test]
async fn every_reference_between_two_tables_of_tenants_holds_the_tenant() {
    let (database, _store) = store(Kind::Postgres).await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let sql = "SELECT r.relname::text, f.relname::text, \
            (SELECT array_agg(a.attname::text ORDER BY k.at) \
             FROM unnest(c.conkey) WITH ORDINALITY k(number, at) \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) \
        FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid \
        JOIN pg_class f ON f.oid = c.confrelid \
        WHERE c.contype = 'f' AND f.relname <> 'tenants' \
        AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attname = 'tenant_id') \
        AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = f.oid AND a.attname = 'tenant_id')";
    let all: Vec<(String, String, Vec<String>)> =
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
    assert!(all.len() > 15, "{}", all.len());
    for (table, target, columns) in &all {
        // One of the references by the same column must enforce it.
        let holds = all.iter().any(|(of, _, others)| {
            of == table
                && others.first() == columns.first()
                && others.iter().any(|it| it == "tenant_id")
        });
        assert!(holds, "{table} -> {target} by {columns:?}");
    }
}
