//! The query of `/authorize`: what the route demands, from the configuration of the proxy.

use std::borrow::Cow;

use crate::gateway::Route;
use crate::model::Result;
use crate::model::text::is_login_page;

/// What the query says.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter by itself")]
pub(super) struct RouteQuery<'a> {
    audience: Cow<'a, str>,
    scopes: Cow<'a, str>,
    roles: Cow<'a, str>,
    login: Cow<'a, str>,
    optional: bool,
    streaming: bool,
    /// Whether a browser may be sent to the login page.
    pub(super) redirect: bool,
    /// Whether the request is refused already, and only the answer for the browser is asked for.
    pub(super) refused: bool,
}

impl<'a> RouteQuery<'a> {
    /// Reads the query. An unknown parameter is refused: a misspelt one must not leave a route open.
    pub(super) fn parse(query: &'a str) -> Result<Self, &'static str> {
        let mut route = Self {
            audience: "".into(),
            scopes: "".into(),
            roles: "".into(),
            login: "".into(),
            optional: false,
            streaming: false,
            redirect: true,
            refused: false,
        };
        let mut seen: Vec<Cow<'_, str>> = Vec::new();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&key) {
                return Err("the query names something twice");
            }
            let switch = match &*key {
                "optional" => Some(&mut route.optional),
                "streaming" => Some(&mut route.streaming),
                "redirect" => Some(&mut route.redirect),
                "refused" => Some(&mut route.refused),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = flag(&value)?;
                seen.push(key);
                continue;
            }
            let parameter = match &*key {
                "audience" => &mut route.audience,
                "scopes" => &mut route.scopes,
                "roles" => &mut route.roles,
                "login" => &mut route.login,
                _ => {
                    return Err(
                        "the query takes audience, scopes, roles, login, optional, streaming, redirect and refused",
                    );
                }
            };
            if key == "roles" && value.trim().is_empty() {
                return Err("roles must name a role: an empty value would admit every user");
            }
            *parameter = value;
            seen.push(key);
        }
        if !route.login.is_empty() && !is_login_page(&route.login) {
            return Err("login must be a path that begins with a slash, or an http:// or https:// URL");
        }
        Ok(route)
    }

    pub(super) fn route(&self) -> Route<'_> {
        Route {
            audience: &self.audience,
            scopes: &self.scopes,
            roles: &self.roles,
            optional: self.optional,
            streaming: self.streaming,
            login: &self.login,
        }
    }
}

fn flag(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("optional, streaming, redirect and refused must be true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_takes_its_parameters_and_no_others() {
        let query =
            "audience=api&scopes=read+write%3Aall&roles=editor+admin&login=%2Flogin%3Fa&streaming=true&optional=true";
        let query = RouteQuery::parse(query).unwrap();
        let route = query.route();
        assert_eq!(
            (route.audience, route.scopes, route.roles, route.login),
            ("api", "read write:all", "editor admin", "/login?a")
        );
        assert!(route.streaming && route.optional && query.redirect && !query.refused);
        assert!(RouteQuery::parse("").unwrap().route().audience.is_empty());
        assert!(RouteQuery::parse("refused=true").unwrap().refused);
        assert!(!RouteQuery::parse("redirect=false").unwrap().redirect);
        for bad in [
            "scope=read",
            "role=admin",
            "audience=a&audience=b",
            "streaming=yes",
            "optional=1",
            "optional",
            "login=login",
            "login=//evil.example",
            "x",
            "roles=",
            "roles=+",
            "optional=false&optional=true",
            "audience=&audience=b",
            "Scopes=a",
        ] {
            assert!(RouteQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
