"use strict";

// validatorUrl is off because it would send the description to a server of others.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
