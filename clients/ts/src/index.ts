export { connect } from "./connect.js";
export { StreamError } from "./errors.js";
export type { ConnectOptions, CredentialRequest, Provided } from "./connection.js";
export type { ErrorCode, Problem } from "./errors.js";
export type { Bye, Gap, Hello, Reauth, StreamEvent } from "./event.js";
export type { WhenHidden } from "./page.js";
export type { Attempt, Callbacks, Closed, EventStream, State } from "./reader.js";
