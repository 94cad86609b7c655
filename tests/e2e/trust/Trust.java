import java.io.InputStream;
import java.net.Socket;
import java.util.Base64;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** Opens TLS with HOST through the proxy as Java does; the trust store is given by its system property. */
class Trust {
    public static void main(String[] arguments) throws Exception {
        String host = arguments[4];
        Socket tcp = new Socket(arguments[0], Integer.parseInt(arguments[1]));
        String credentials = Base64.getEncoder().encodeToString(("x:" + arguments[2]).getBytes());
        String connect = "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\nProxy-Authorization: Basic "
            + credentials + "\r\n\r\n";
        tcp.getOutputStream().write(connect.getBytes());
        StringBuilder head = new StringBuilder();
        InputStream in = tcp.getInputStream();
        while (head.indexOf("\r\n\r\n") < 0) {
            head.append((char) in.read());
        }
        if (!head.toString().startsWith("HTTP/1.1 200")) {
            throw new IllegalStateException(head.toString());
        }
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket tls = (SSLSocket) factory.createSocket(tcp, host, 443, true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        tls.startHandshake();
        System.out.println("accepted " + tls.getSession().getProtocol());
        tls.close();
    }
}
