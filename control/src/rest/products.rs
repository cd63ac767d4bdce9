//! `/v1/products`: API services bundled for sale.

use imp_core::api_service::{ApiService, ApiServiceStatus};
use imp_core::product::{CatalogStatus, Product, ProductSpec};
use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::subscription::SubscriptionStatus;
use imp_core::{ApiServiceId, Meta, ProductId};
use imp_store::product::{self as table, ProductFilter};
use imp_store::subscription::{self, SubscriptionFilter};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::flows::Write;
use crate::flows::publish::service_retired;
use crate::problem::Problem;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra, Made, OWNER, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Product, product, ProductId, ProductFilter);

/// `status`, which products and plans may have at creation: on sale at once, or not yet.
pub const INITIAL: Extra = Extra { name: "status", required: false, schema: initial_schema };

fn initial_schema() -> Value {
    json!({ "type": "string", "enum": ["draft", "active"], "default": "active" })
}

/// The states that something for sale may begin in.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    Draft,
    Active,
}

impl Initial {
    pub fn take(body: &mut Json) -> Result<CatalogStatus, Problem> {
        Ok(match body.take("status")? {
            Some(Self::Draft) => CatalogStatus::Draft,
            Some(Self::Active) | None => CatalogStatus::Active,
        })
    }
}

impl Entity for Product {
    type Spec = ProductSpec;
    type View = Self;

    const KIND: Kind = Kind::Product;
    const PATH: &'static str = "products";
    const NOUN: &'static str = "product";
    const FILTERS: &'static [&'static str] = &["tenant_id", "name", "status"];
    const EXTRAS: &'static [Extra] = &[OWNER, INITIAL];

    fn spec(&self) -> ProductSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ProductFilter, Problem> {
        let (name, status) = (query.take("name")?, query.take("status")?);
        Ok(ProductFilter { name, status, ..ProductFilter::default() })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<ProductFilter> {
        scope.tenant()?;
        Some(ProductFilter { name: Some(name.to_owned()), ..ProductFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let status = Initial::take(&mut body)?;
        let spec: ProductSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        check_services(&mut write, &spec, &[]).await?;
        let id = ProductId::new();
        let product = Self { id, tenant_id, status, spec, meta: Meta::new(write.now) };
        table::insert(&mut write.tx, &product).await?;
        write.finish::<Self>("create", id).await?;
        Ok(product.into())
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: ProductSpec,
    ) -> Result<Self, Problem> {
        refuse_closed(Self::NOUN, current.status)?;
        write.within(current.tenant_id)?;
        check_services(write, &spec, &current.spec.api_services).await?;
        save(write, Self { spec, ..current }).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        Ok(())
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// What is closed stays as it is.
pub fn refuse_closed(noun: &str, status: CatalogStatus) -> Result<(), Problem> {
    if status == CatalogStatus::Closed {
        let detail = format!("the {noun} is closed and stays as it is");
        return Err(Problem::conflict("invalid_transition", detail));
    }
    Ok(())
}

/// `held` are those that it holds already: a retired one may stay until it is taken out.
async fn check_services(
    write: &mut Write<'_>,
    spec: &ProductSpec,
    held: &[ApiServiceId],
) -> Result<(), Problem> {
    for (index, id) in spec.api_services.iter().enumerate() {
        let pointer = format!("/api_services/{index}");
        let service = write.refer::<ApiService>(*id, &pointer).await?;
        if service.status == ApiServiceStatus::Retired && !held.contains(id) {
            return Err(service_retired(&pointer));
        }
        if spec.api_services.iter().take(index).any(|other| other == id) {
            let why = "this service is in the list already";
            return Err(Problem::invalid(&pointer, "duplicate_service", why));
        }
    }
    Ok(())
}

async fn save(write: &mut Write<'_>, mut product: Product) -> Result<Product, Problem> {
    let expected = product.meta.version;
    product.meta.touch(write.now);
    table::update(&mut write.tx, &product, expected).await?;
    Ok(product)
}

/// Nothing can end while somebody is entitled to it.
pub async fn refuse_while_subscribed(
    write: &mut Write<'_>,
    filter: SubscriptionFilter,
) -> Result<(), Problem> {
    use SubscriptionStatus::{Active, Pending, Suspended};
    for status in [Pending, Active, Suspended] {
        let filter = SubscriptionFilter { status: Some(status), ..filter.clone() };
        let one = imp_store::Page { after: None, limit: 1 };
        if !subscription::list_in(&mut write.tx, &write.scope, &filter, one).await?.is_empty() {
            let detail = "subscriptions still stand; cancel them first";
            return Err(Problem::conflict("in_use", detail));
        }
    }
    Ok(())
}

async fn activate(write: &mut Write<'_>, product: Product) -> Result<Product, Problem> {
    let status = product.status.activate(Product::NOUN)?;
    save(write, Product { status, ..product }).await
}

async fn deprecate(write: &mut Write<'_>, product: Product) -> Result<Product, Problem> {
    let status = product.status.deprecate(Product::NOUN)?;
    save(write, Product { status, ..product }).await
}

async fn close(write: &mut Write<'_>, product: Product) -> Result<Product, Problem> {
    let status = product.status.close(Product::NOUN)?;
    let of_it =
        SubscriptionFilter { product_id: Some(product.id), ..SubscriptionFilter::default() };
    refuse_while_subscribed(write, of_it).await?;
    save(write, Product { status, ..product }).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Product>(routes);
    act!(routes, Product, Action::Write, "activate", activate);
    act!(routes, Product, Action::Write, "deprecate", deprecate);
    act!(routes, Product, Action::Write, "close", close);
}
