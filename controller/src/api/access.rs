//! Who may ask for what: a route exists only together with what it asks of the caller.
//!
//! [`Routes`] is the one table. It makes the router, so a handler that is not in it cannot be
//! reached, and the tests walk it with every kind of token. The check comes before the request's
//! path, query and body are looked at.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};

use super::App;
use super::auth;
use super::types::ApiRole;
use crate::rejections::Rejection;

/// What a route asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: what comes in is public, or proves itself.
    Anyone,
    /// To be a device that is in, or an operator of any role.
    Fleet,
    /// A token that covers this role.
    Role(ApiRole),
}

/// One route and what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
}

/// Every route with its handler.
#[derive(Default)]
pub(super) struct Routes(Vec<(Route, MethodRouter<Arc<App>>)>);

impl Routes {
    /// `GET`, and with it `HEAD`.
    pub fn get<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::GET, path, access, routing::get(handler))
    }

    /// `POST`.
    pub fn post<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::POST, path, access, routing::post(handler))
    }

    /// `PUT`.
    pub fn put<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::PUT, path, access, routing::put(handler))
    }

    /// `DELETE`.
    pub fn delete<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.with(Method::DELETE, path, access, routing::delete(handler))
    }

    fn with(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        self.0.push((Route { method, path, access }, handler));
        self
    }

    /// Bounds the body of the route that was added last.
    pub fn at_most(mut self, bytes: usize) -> Self {
        let last = self
            .0
            .pop()
            .map(|(route, handler)| (route, handler.layer(DefaultBodyLimit::max(bytes))));
        self.0.extend(last);
        self
    }

    /// What every route asks, in the order of the table.
    #[cfg(test)]
    pub fn table(self) -> Vec<Route> {
        self.0.into_iter().map(|(route, _)| route).collect()
    }

    /// The router, with the check before every handler.
    pub fn router(self, app: &Arc<App>) -> Router<Arc<App>> {
        let guarded = |router: Router<_>, (route, handler): (Route, MethodRouter<_>)| {
            let check = from_fn_with_state((Arc::clone(app), route.access), guard);
            router.route(route.path, handler.route_layer(check))
        };
        self.0.into_iter().fold(Router::new(), guarded)
    }
}

/// Lets a request through if the caller may ask it, and tells the handler who they are.
async fn guard(
    State((app, access)): State<(Arc<App>, Access)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let admitted = match access {
        Access::Anyone => Ok(None),
        Access::Fleet if auth::is_device(&parts, &app) => Ok(None),
        Access::Fleet => auth::operator(&parts, &app, ApiRole::Viewer).map(Some),
        Access::Role(role) => auth::operator(&parts, &app, role).map(Some),
    };
    match admitted {
        Ok(operator) => {
            if let Some(operator) = operator {
                parts.extensions.insert(operator);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

/// Counts every request that was turned away, under its own reason or that of its status.
pub(super) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let said = response.extensions().get::<Rejection>().copied();
    if let Some(rejection) = said.or_else(|| by_status(response.status())) {
        app.rejections.count(rejection);
    }
    response
}

fn by_status(status: StatusCode) -> Option<Rejection> {
    match status {
        StatusCode::FORBIDDEN => Some(Rejection::Forbidden),
        StatusCode::CONFLICT => Some(Rejection::Conflict),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Rejection::BodyTooLarge),
        // To ask whether something is there is not to be turned away.
        StatusCode::NOT_FOUND => None,
        status if status.is_client_error() => Some(Rejection::BadRequest),
        status if status.is_server_error() => Some(Rejection::Failed),
        _ => None,
    }
}
