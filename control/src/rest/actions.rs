//! Actions on an object: `POST /v1/plans/{id}/activate`.

use imp_core::role::Action;
use serde_json::Value;

use crate::entity::operation;
use crate::rest::crud::member;
use crate::rest::entity::Entity;
use crate::rest::param::TENANT;
use crate::rest::routes::Op;

/// The operation of an action that answers with the object.
pub fn step<E: Entity>(action: Action, verb: &str, view: Value) -> Op {
    let path = format!("{}/{verb}", member::<E>());
    let op = Op::post(operation::<E>(verb), path, format!("{}: {}", capital(verb), E::NOUN));
    op.needs(E::KIND, action).query(&[TENANT]).gives(200, view)
}

fn capital(verb: &str) -> String {
    let (first, rest) = verb.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// Mounts `fn(&mut Transaction, Entity) -> Result<Entity, Refusal>` as an action; with `body = T`,
/// the parsed body is its third argument. A trailing `tightens` calls [`Op::tightens`].
macro_rules! act {
    ($routes:expr, $entity:ty, $action:expr, $verb:literal, $flow:path, body = $body:ty $(, $tightens:ident)?) => {{
        let view = $crate::rest::actions::view::<$entity>($routes);
        let schema = $routes.document.schema::<$body>();
        let op = $crate::rest::actions::step::<$entity>($action, $verb, view).takes(schema)
            $(.$tightens())?;
        $routes.add(op, |call: $crate::rest::call::Call| async move {
            let body: $body = call.json()?.into_spec()?;
            let (mut tx, current) = $crate::rest::crud::open::<$entity>(&call).await?;
            let step = async move {
                let next = $flow(&mut tx, current, body.into()).await?;
                tx.finish::<$entity>($verb, next.id).await?;
                Ok::<_, $crate::problem::Problem>(next)
            };
            let next = $crate::workers::statements(&call.state.store, step).await?;
            $crate::rest::crud::show_written(&call, next).await
        });
    }};
    ($routes:expr, $entity:ty, $action:expr, $verb:literal, $flow:path $(, $tightens:ident)?) => {{
        let view = $crate::rest::actions::view::<$entity>($routes);
        let op = $crate::rest::actions::step::<$entity>($action, $verb, view) $(.$tightens())?;
        $routes.add(op, |call: $crate::rest::call::Call| async move {
            call.no_body()?;
            let (mut tx, current) = $crate::rest::crud::open::<$entity>(&call).await?;
            let step = async move {
                let next = $flow(&mut tx, current).await?;
                tx.finish::<$entity>($verb, next.id).await?;
                Ok::<_, $crate::problem::Problem>(next)
            };
            let next = $crate::workers::statements(&call.state.store, step).await?;
            $crate::rest::crud::show_written(&call, next).await
        });
    }};
}
pub(crate) use act;

/// The schema of an action's answer.
pub fn view<E: Entity>(routes: &mut crate::rest::routes::Routes) -> Value {
    routes.document.schema::<E::View>()
}
