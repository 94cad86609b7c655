import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Posts BODY to URL with Java's own client, through the proxy if HOST is not empty: Ask HOST PORT TOKEN URL HEADER BODY. */
class Ask {
    public static void main(String[] arguments) throws Exception {
        String[] header = arguments[4].split(": ", 2);
        HttpClient.Builder builder = HttpClient.newBuilder();
        if (!arguments[0].isEmpty()) {
            builder.proxy(ProxySelector.of(new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]))))
                .authenticator(new Authenticator() {
                    @Override
                    protected PasswordAuthentication getPasswordAuthentication() {
                        return new PasswordAuthentication("x", arguments[2].toCharArray());
                    }
                });
        }
        HttpClient client = builder.build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[3]))
            .header(header[0], header[1])
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(arguments[5]))
            .build();
        HttpResponse<byte[]> reply = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
        System.out.write(reply.body());
        System.out.flush();
    }
}
