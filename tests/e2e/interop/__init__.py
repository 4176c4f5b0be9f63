"""The example with the scripts of others on its pages: settings, pages, and the npm packages they come from."""
