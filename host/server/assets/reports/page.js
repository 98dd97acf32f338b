import { html } from "../vendor/htm/standalone.module.js";
export const ReportsPage = () => html`<h1>Reports</h1>`;
