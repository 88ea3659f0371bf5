// The HTTP client of the JDK at its defaults, which offers HTTP/2 (`Upgrade: h2c`) with each first request:
// `java Upgrade.java URL`. The server ignores the offer.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

public class Upgrade {
    public static void main(String[] args) throws Exception {
        String url = args[0];
        HttpRequest[] requests = {
            HttpRequest.newBuilder(URI.create(url + "/readyz")).build(),
            HttpRequest.newBuilder(URI.create(url + "/Health/Check")).POST(BodyPublishers.noBody()).build(),
            HttpRequest.newBuilder(URI.create(url + "/Arith/Multiply")).header("Content-Type", "application/json; charset=utf8")
                .POST(BodyPublishers.ofString("{\"A\":6,\"B\":7}")).build(),
        };
        for (HttpRequest request : requests) {
            // One client per request, so that each request offers the upgrade.
            var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
            System.out.println(answer.version() + " " + answer.statusCode() + " " + answer.body().strip());
        }
    }
}
