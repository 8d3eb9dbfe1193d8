//! `GET /v1/users/{id}/profile`: what the service knows of a user.

use super::{HttpState, respond};
use crate::config::Scope;
use crate::wire::problem::Problem;
use crate::wire::profile;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use verdict_core::event::MAX_ID_BYTES;

pub(super) async fn get(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let result = view(&request, &state).await;
    respond::answer(&request, &state, result)
}

async fn view(request: &HttpRequest, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Review, Scope::Admin])?;
    let unknown = || Problem::new(404, "USER_NOT_FOUND", "expected the id of a user seen before, found an unknown one");
    // An id that cannot be decoded, or that no event could carry, names nobody.
    let user_id = web::Path::<String>::extract(request).await.map_err(|_| unknown())?;
    if user_id.len() > MAX_ID_BYTES {
        return Err(unknown());
    }
    let view = respond::within(state.limits.read_deadline, state.intake.profile(&user_id)).await??;
    let view = view.ok_or_else(unknown)?;
    let mut json = Vec::with_capacity(2_048);
    profile::to_json(&view, (state.rates)().base(), &mut json);
    Ok(json)
}
