//! What `fanfare broadcast` changes about requests and answers.

use proxy::config::{Direction, FieldLine, FieldName, HostValue, NewPath, Prefix};

use super::ROUTE;
use crate::settings::{List, Setting, flag, group, values::parsed};

group!(GROUP, "Changes to requests and answers";
    STRIP_PREFIX: Setting<Prefix> = flag("strip-prefix").at(ROUTE, "strip_prefix").one("PATH", parsed),
        "Whole segments that are removed from the front of a path that begins with them: with /api, /api/v1 becomes \
         /v1";
    REWRITE: Setting<NewPath> = flag("rewrite").at(ROUTE, "rewrite").one("PATH", parsed),
        "Path that replaces that of the request; * at its end stands for what the * of the route's path matched, or \
         for all after the first slash. The query is kept";
    HOST: Setting<HostValue> = flag("host").at(ROUTE, "host").default("the client's").one("HOST|{authority}", parsed),
        "Host field that endpoints get; {authority} is each one's own name, or address, and port";
    SET_HEADER: List<FieldLine> = flag("set-header").at(ROUTE, "headers.request.set").many("NAME: VALUE", request_line),
        "Header field that endpoints get in place of the client's; in the file also a mapping of names to values";
    ADD_HEADER: List<FieldLine> = flag("add-header").at(ROUTE, "headers.request.add").many("NAME: VALUE", request_line),
        "Header field that endpoints get in addition to the client's";
    REMOVE_HEADER: List<FieldName> = flag("remove-header").at(ROUTE, "headers.request.remove")
        .commas("NAME", request_name),
        "Header field of the client that endpoints do not get";
    SET_RESPONSE_HEADER: List<FieldLine> = flag("set-response-header").at(ROUTE, "headers.response.set")
        .many("NAME: VALUE", response_line),
        "Header field that the client gets in place of the endpoint's";
    ADD_RESPONSE_HEADER: List<FieldLine> = flag("add-response-header").at(ROUTE, "headers.response.add")
        .many("NAME: VALUE", response_line),
        "Header field that the client gets in addition to the endpoint's";
    REMOVE_RESPONSE_HEADER: List<FieldName> = flag("remove-response-header").at(ROUTE, "headers.response.remove")
        .commas("NAME", response_name),
        "Header field of the endpoint that the client does not get";
);

fn request_line(text: &str) -> Result<FieldLine, String> {
    line(text, Direction::Request)
}

fn response_line(text: &str) -> Result<FieldLine, String> {
    line(text, Direction::Response)
}

fn request_name(text: &str) -> Result<FieldName, String> {
    name(text, Direction::Request)
}

fn response_name(text: &str) -> Result<FieldName, String> {
    name(text, Direction::Response)
}

fn line(text: &str, direction: Direction) -> Result<FieldLine, String> {
    let line: FieldLine = parsed(text)?;
    line.name().may_change(direction).map_err(|error| error.to_string())?;
    Ok(line)
}

fn name(text: &str, direction: Direction) -> Result<FieldName, String> {
    let name: FieldName = parsed(text)?;
    name.may_change(direction).map_err(|error| error.to_string())?;
    Ok(name)
}
