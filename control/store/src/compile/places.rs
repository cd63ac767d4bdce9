//! Reads where resources belong whose rows are corrupt, using only the columns for that.

use imp_core::product_publish::{Environment, PublishStatus};
use imp_core::{ClusterId, CredentialId, GatewayId, ProductId, ProductPublishId, SubscriptionId};
use uuid::Uuid;

use super::{Read, Which, read};
use crate::sql::Word;
use crate::{Result, Store};

/// A publish's cluster and what it anchors there.
#[derive(Clone, Copy, Debug)]
pub struct PublishPlace {
    /// A publish that is not served has no place.
    pub status: PublishStatus,
    pub cluster_id: ClusterId,
    pub gateway_id: GatewayId,
    pub product_id: ProductId,
    pub environment: Environment,
}

/// What a subscription is placed by.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionPlace {
    pub product_id: ProductId,
    pub environment: Environment,
    /// If set, only this publish.
    pub product_publish_id: Option<ProductPublishId>,
}

pub async fn publishes(
    store: &Store,
    which: Which<'_, ProductPublishId>,
) -> Result<Vec<Read<ProductPublishId, PublishPlace>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        status: Word<PublishStatus>,
        cluster_id: Uuid,
        gateway_id: Uuid,
        product_id: Uuid,
        environment: Word<Environment>,
    }
    let select = "SELECT id, status, cluster_id, gateway_id, product_id, environment \
        FROM product_publishes WHERE id";
    let rows = read::<_, Columns>(store, "product_publishes", select, " ORDER BY id", which);
    let place = |row: Columns| {
        Ok(PublishPlace {
            status: row.status.0,
            cluster_id: row.cluster_id.into(),
            gateway_id: row.gateway_id.into(),
            product_id: row.product_id.into(),
            environment: row.environment.0,
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(place)).collect())
}

pub async fn subscriptions(
    store: &Store,
    which: Which<'_, SubscriptionId>,
) -> Result<Vec<Read<SubscriptionId, SubscriptionPlace>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        product_id: Uuid,
        environment: Word<Environment>,
        product_publish_id: Option<Uuid>,
    }
    let select =
        "SELECT id, product_id, environment, product_publish_id FROM subscriptions WHERE id";
    let rows = read::<_, Columns>(store, "subscriptions", select, " ORDER BY id", which);
    let place = |row: Columns| {
        Ok(SubscriptionPlace {
            product_id: row.product_id.into(),
            environment: row.environment.0,
            product_publish_id: row.product_publish_id.map(Into::into),
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(place)).collect())
}

/// The subscriptions of credentials.
pub async fn credentials(
    store: &Store,
    which: Which<'_, CredentialId>,
) -> Result<Vec<Read<CredentialId, SubscriptionId>>> {
    let select = "SELECT k.id AS id, c.subscription_id AS subscription_id \
        FROM credentials k JOIN consumers c ON c.id = k.consumer_id WHERE k.id";
    let rows = read::<_, (Uuid, Uuid)>(store, "credentials", select, " ORDER BY k.id", which);
    Ok(rows.await?.into_iter().map(|row| row.and_then(|(_, id)| Ok(id.into()))).collect())
}
