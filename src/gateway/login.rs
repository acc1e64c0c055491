//! Where a browser is sent that has to log in.

use url::form_urlencoded::byte_serialize;

use super::request::ProxiedRequest;

/// The longest address to which the login page is asked to return, in bytes. A longer one is left out.
const MAX_RETURN: usize = 2048;

/// The address of the login page, with the page to return to in the parameter `return_to`: path and query, or the whole
/// address if the login page has a host of its own. `None` if the request is for the login page itself, where a redirect would
/// never end.
///
/// The login page must check `return_to` before it uses it: a link from another site can have any value there.
pub(super) fn login_location(login: &str, request: &ProxiedRequest<'_>) -> Option<String> {
    let path = request.path();
    let end = path.find('?').unwrap_or(path.len());
    if !login.starts_with('/') {
        let is_login_page = login.split_once("://").is_some_and(|(_, address)| {
            let address = address.split('?').next().unwrap_or_default();
            address.strip_prefix(request.host()) == Some(&path[..end])
        });
        let whole = (!request.host().is_empty()).then(|| format!("https://{}{path}", request.host()));
        return (!is_login_page).then(|| with_return(login, whole.as_deref().unwrap_or_default()));
    }
    let is_login_page = login.split('?').next() == Some(&path[..end]);
    (!is_login_page).then(|| with_return(login, path))
}

fn with_return(login: &str, address: &str) -> String {
    // A second slash or a backslash would begin the name of another host, and browsers leave out tabs and line ends.
    let is_local = address.starts_with('/') && !address[1..].starts_with(['/', '\\']);
    let is_plain = address.chars().all(|character| character.is_ascii_graphic());
    if address.len() > MAX_RETURN || !is_plain || !(is_local || address.starts_with("https://")) {
        return login.to_owned();
    }
    let separator = if login.contains('?') { '&' } else { '?' };
    let address: String = byte_serialize(address.as_bytes()).collect();
    format!("{login}{separator}return_to={address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(login: &str, host: &str, path: &str) -> Option<String> {
        let request = ProxiedRequest::new("GET", host, path, None, []);
        login_location(login, &request)
    }

    #[test]
    fn the_login_page_is_told_where_to_return() {
        let sent = |login, path| location(login, "app.example", path).unwrap();
        assert_eq!(sent("/login", "/"), "/login?return_to=%2F");
        assert_eq!(
            sent("/login?lang=en", "/a?b=c&d=%20"),
            "/login?lang=en&return_to=%2Fa%3Fb%3Dc%26d%3D%2520"
        );
        for strange in ["/a\r\nb", "/\t/evil.example", "/ä"] {
            assert_eq!(sent("/login", strange), "/login");
        }
        let other = "https://login.example/start";
        assert_eq!(
            sent(other, "/a?b"),
            "https://login.example/start?return_to=https%3A%2F%2Fapp.example%2Fa%3Fb"
        );
        assert_eq!(location(other, "", "/a").as_deref(), Some(other));
    }

    #[test]
    fn an_address_of_another_host_is_left_out_and_the_login_page_does_not_redirect_to_itself() {
        for path in [
            "//evil.example/",
            "/\\evil.example",
            "",
            "*",
            "https:/x",
            &"/a".repeat(2000),
        ] {
            assert_eq!(
                location("/login", "app.example", path).as_deref(),
                Some("/login"),
                "{path}"
            );
        }
        assert_eq!(location("/login", "app.example", "/login"), None);
        assert_eq!(location("/login?a=b", "app.example", "/login?return_to=x"), None);
        assert_eq!(location("https://app.example/login", "app.example", "/login?x"), None);
        assert!(location("https://app.example/login", "app.example", "/logins").is_some());
    }
}
