//! The OpenAPI schema of a policy: one variant per type.

use utoipa::openapi::schema::{
    AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{Policy, PolicyType, TYPES};
use crate::PolicyId;

impl PartialSchema for Policy {
    fn schema() -> RefOr<Schema> {
        let about = "A policy of an API service or of one of its routes.";
        let types = TYPES.iter().map(object).fold(OneOfBuilder::new(), OneOfBuilder::item);
        types.description(Some(about)).into()
    }
}

impl ToSchema for Policy {
    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((PolicyId::name().into_owned(), PolicyId::schema()));
        for it in TYPES {
            found.push(((it.settings)().into_owned(), (it.schema)()));
            (it.parts)(found);
        }
    }
}

fn object(it: &PolicyType) -> Object {
    let id = Ref::builder().ref_location_from_schema_name(PolicyId::name());
    let config = Ref::builder().ref_location_from_schema_name((it.settings)());
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let route = "The name of the route it applies to; the whole service when absent. A route's policy \
        takes the place of the service's policy of the same type.";
    ObjectBuilder::new()
        .property("id", id.description(Some("Given by the platform when absent.")).build())
        .property("name", text().description(Some("Unique in the service.")).examples(["limit"]))
        .property("type", text().enum_values(Some([it.name])))
        .property("config", config.description(Some(it.summary)).build())
        .property(
            "route",
            ObjectBuilder::new()
                .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
                .description(Some(route)),
        )
        .required("name")
        .required("type")
        .required("config")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .build()
}
