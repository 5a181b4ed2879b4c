// Parses a JSON body and answers with it.
export default {
  async fetch(request) {
    return Response.json(await request.json());
  },
};
